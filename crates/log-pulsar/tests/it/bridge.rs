//! Bridges: our events as anybody's messages, anybody's messages as commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::{EventRecord, Fault, IdSource, ManualClock, NewEvent, Result, Timestamp, problems};
use log_pulsar::{Bridge, Fate, Letter, Letters, Subscription, SubscriptionOptions, Wanted};
use platform::bridge::{Command, Content, Inlet, ORIGIN, Outgoing, Outlet};
use platform::{Db, DbOptions, Hook, Lane, Migration, OnDuplicate, Polling, Reader, Relay, Step};
use pulsar::ProducerOptions;
use pulsar::producer::Message;
use pulsar::proto::{Schema, schema::Type};
use serde_json::json;

use crate::broker::{Broker, Raw};

/// A table of an owner, which messages are enriched from.
const OWNED: &[Migration] = &[Migration::new(
    1_000,
    "tests",
    "CREATE TABLE owned (subject {key} NOT NULL PRIMARY KEY, name {key}) {clustered};",
)];

const SCHEMA: &str = r#"{"type":"record","name":"Aviso","fields":[
    {"name":"data","type":["null",{"type":"record","name":"Datos","fields":[
        {"name":"quien","type":["null","string"]},{"name":"monto","type":["null","float"]}]}]}]}"#;

fn database(hook: Option<Hook>) -> Arc<Db> {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_769_860_800_000_000)));
    let migrations = vec![platform::MIGRATIONS, OWNED];
    Arc::new(Db::in_memory(DbOptions { clock, ids: IdSource::from_number(1), hook, migrations }).unwrap())
}

/// An empty namespace without any rule of ours.
fn foreign(test: &str) -> Option<(Broker, String)> {
    let broker = Broker::find(test)?;
    let place = format!("namespaces/{}/{}", broker.options.tenant, broker.options.namespace);
    assert_eq!(broker.admin("PUT", &place, "{}").0, 204);
    let topic = broker.options.topic("avisos");
    Some((broker, topic))
}

fn happened(subject: &str, event_type: &'static str) -> NewEvent {
    NewEvent {
        event_type,
        aggregate: "test",
        subject: subject.to_owned(),
        payload: "{}".to_owned(),
        causation_id: None,
        correlation_id: None,
    }
}

fn publish(db: &Db, events: &[NewEvent]) {
    db.write("publish", Lane::Front, "tester", |tx| tx.publish(events)).unwrap();
}

fn message(topic: &str, key: Option<&str>, content: Content) -> Outgoing {
    let (topic, key) = (topic.to_owned(), key.map(str::to_owned));
    Outgoing { topic, key, properties: BTreeMap::new(), content, envelope: None }
}

/// Each event as three messages: JSON with a key and an envelope, Avro with a key, plain text with neither; with the name
/// that an owner's table has.
fn three_of_each(reader: &Reader<'_>, events: &[EventRecord], topics: &[String; 3]) -> Result<Vec<Outgoing>> {
    let keys: BTreeSet<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    let keys: Vec<[platform::Value<'_>; 1]> = keys.into_iter().map(|key| [key.into()]).collect();
    let found = reader.query_in("SELECT subject, name FROM owned WHERE subject IN (?*)", &[], &keys, |row| {
        Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))
    })?;
    let names: BTreeMap<String, String> = found.into_iter().collect();
    let of_event = |event: &EventRecord| {
        let (key, name) = (Some(event.subject.as_str()), &names[&event.subject]);
        let mut json = message(&topics[0], key, Content::Json(json!({ "tipo": "Aviso", "quien": name })));
        json.envelope = Some(event.clone());
        json.properties.insert("event_type".to_owned(), "Aviso".to_owned());
        let value = json!({ "data": { "quien": name, "monto": 2500.1 } });
        let avro = message(&topics[1], key, Content::Avro { schema: SCHEMA, value });
        [json, avro, message(&topics[2], None, Content::Plain(format!("H{name}").into_bytes()))]
    };
    Ok(events.iter().flat_map(of_event).collect())
}

#[test]
fn an_event_becomes_several_messages_in_any_shape_with_what_its_owner_knows() {
    let Some((broker, topic)) = foreign("an event becomes several messages") else { return };
    let db = database(None);
    db.write("owner", Lane::Front, "tester", |tx| {
        let rows = [["a".into(), "Ana".into()], ["b".into(), "Berta".into()]];
        tx.insert("owned", ["subject", "name"], &rows, OnDuplicate::Fail)
    })
    .unwrap();
    let topics = ["json", "avro", "plain"].map(|kind| format!("{topic}-{kind}"));
    let (types, there) = (vec!["tests.noted.v1"], topics.clone());
    let translate = Box::new(move |reader: &Reader<'_>, events: &[EventRecord]| three_of_each(reader, events, &there));
    let outlet = Outlet { name: "avisos", types, translate };
    let bridge = Bridge::new(broker.options.clone(), outlet, db.clone());
    let mut relay = Relay::new(Box::new(Polling), Box::new(bridge));
    publish(&db, &[happened("a", "tests.noted.v1"), happened("a", "tests.other.v1"), happened("b", "tests.noted.v1")]);
    assert_eq!(relay.step(&db, kernel::Duration::ZERO).unwrap(), Step::Moved(3));
    assert_eq!(relay.step(&db, kernel::Duration::ZERO).unwrap(), Step::Idle);
    let [json, avro, plain] = topics.map(|topic| broker.read(&topic, 2));
    for (nth, (subject, name)) in [("a", "Ana"), ("b", "Berta")].into_iter().enumerate() {
        let Raw { key, payload, properties, schema_version } = &json[nth];
        assert_eq!((key.as_deref(), schema_version.as_deref().unwrap_or_default()), (Some(subject), &[][..]));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(payload).unwrap(),
            json!({ "tipo": "Aviso", "quien": name })
        );
        assert_eq!((properties["ce_type"].as_str(), properties["ce_subject"].as_str()), ("tests.noted.v1", subject));
        assert_eq!((properties["event_type"].as_str(), properties[ORIGIN].as_str()), ("Aviso", "alpes"));
        let Raw { key, payload, properties, schema_version } = &avro[nth];
        assert_eq!((key.as_deref(), properties.len(), properties[ORIGIN].as_str()), (Some(subject), 1, "alpes"));
        assert_eq!(schema_version.as_deref(), Some(&0_i64.to_be_bytes()[..]));
        // Both unions take their second variant; then the text with its length and the number of 32 bits.
        let length = u8::try_from(name.len()).unwrap() * 2;
        assert_eq!(payload, &[&[2, 2, length], name.as_bytes(), &[2], &2500.1_f32.to_le_bytes()[..]].concat());
        let Raw { key, payload, properties, .. } = &plain[nth];
        assert_eq!((key, payload, properties.len()), (&None, &format!("H{name}").into_bytes(), 1));
    }
}

#[test]
fn a_crash_between_the_receipt_and_the_cursor_sends_again_and_keeps_the_order_of_keys() {
    let Some((broker, topic)) = foreign("a crash after the receipt") else { return };
    let crashes = Arc::new(AtomicBool::new(false));
    let hook: Hook = {
        let crashes = crashes.clone();
        Arc::new(move |name, moment| {
            let dies = (name, moment) == ("relay:avisos", "before_commit") && crashes.load(Ordering::SeqCst);
            if dies { Err(Fault::internal("the process is gone")) } else { Ok(()) }
        })
    };
    let db = database(Some(hook));
    let start = || {
        let there = topic.clone();
        let translate = Box::new(move |_: &Reader<'_>, events: &[EventRecord]| {
            let content = |event: &EventRecord| Content::Json(json!(event.position));
            Ok(events.iter().map(|event| message(&there, Some(&event.subject), content(event))).collect())
        });
        let outlet = Outlet { name: "avisos", types: vec!["tests.noted.v1"], translate };
        Relay::new(Box::new(Polling), Box::new(Bridge::new(broker.options.clone(), outlet, db.clone())))
    };
    let events: Vec<NewEvent> = (0..700).map(|n| happened(&format!("k{}", n % 5), "tests.noted.v1")).collect();
    publish(&db, &events);
    let mut relay = start();
    assert_eq!(relay.step(&db, kernel::Duration::ZERO).unwrap(), Step::Moved(512));
    crashes.store(true, Ordering::SeqCst);
    relay.step(&db, kernel::Duration::ZERO).unwrap_err();
    crashes.store(false, Ordering::SeqCst);
    drop(relay);
    let mut relay = start();
    assert_eq!(relay.step(&db, kernel::Duration::ZERO).unwrap(), Step::Moved(188));
    let raws = broker.read(&topic, 700 + 188);
    let positions = raws.iter().map(|raw| std::str::from_utf8(&raw.payload).unwrap().parse::<i64>().unwrap());
    let positions: Vec<i64> = positions.collect();
    assert_eq!(positions.iter().collect::<BTreeSet<_>>().len(), 700, "nothing is missing");
    // Whoever passes over what he has seen sees each key in order.
    let mut last = BTreeMap::<String, i64>::new();
    let mut seen = BTreeSet::new();
    for (raw, position) in raws.iter().zip(positions).filter(|(_, position)| seen.insert(*position)) {
        let before = last.insert(raw.key.clone().unwrap(), position);
        assert!(before.is_none_or(|before| before < position), "{before:?} before {position}");
    }
}

#[test]
fn a_message_that_cannot_be_written_is_a_fault_that_names_it_and_the_cursor_stays() {
    let Some((broker, topic)) = foreign("a message that cannot be written") else { return };
    let avro = |schema, value| Content::Avro { schema, value };
    let fault_of = |contents: Vec<Content>| {
        let (db, there) = (database(None), topic.clone());
        let translate = Box::new(move |_: &Reader<'_>, _: &[EventRecord]| {
            Ok(contents.iter().map(|content| message(&there, None, content.clone())).collect())
        });
        let outlet = Outlet { name: "avisos", types: vec!["tests.noted.v1"], translate };
        let mut relay =
            Relay::new(Box::new(Polling), Box::new(Bridge::new(broker.options.clone(), outlet, db.clone())));
        publish(&db, &[happened("a", "tests.noted.v1")]);
        let fault = relay.step(&db, kernel::Duration::ZERO).unwrap_err();
        assert_eq!(db.read(|reader| platform::consumer::position(reader, "relay:avisos")).unwrap(), 0);
        fault
    };
    let other = r#"{"type":"record","name":"Otro","fields":[]}"#;
    for (contents, words) in [
        (vec![avro(SCHEMA, json!({ "datos": {} }))], "/datos is not in the schema"),
        (vec![avro(other, json!({})), avro(SCHEMA, json!({}))], "was given two schemas"),
        (vec![avro(other, json!({})), Content::Json(json!({}))], "was given two schemas"),
        (vec![Content::Plain(vec![0; 6_000_000])], "6000000 bytes are more than a broker takes"),
    ] {
        let fault = fault_of(contents);
        assert_eq!(fault.code(), "broker_refused");
        assert!(fault.detail().contains(words) && fault.detail().contains(&topic), "{fault}");
    }
}

/// Notes each message under its `quien` as an event; `no` cannot be read, and `later` is refused until `mended`.
fn notes(mended: Arc<AtomicBool>) -> Inlet<String> {
    Inlet {
        name: "avisos",
        read: Box::new(|message, _| {
            let document: serde_json::Value = serde_json::from_slice(message.document)
                .map_err(|error| Fault::new(&problems::INVALID, format!("no JSON: {error}")))?;
            let data = if document["data"].is_object() { &document["data"] } else { &document };
            let name = data["quien"].as_str().ok_or_else(|| Fault::new(&problems::INVALID, "quien is missing"))?;
            Ok(Some(Command { id: message.property("event_id").map(str::to_owned), body: name.to_owned() }))
        }),
        apply: Box::new(move |tx, names| {
            let is_refused = |name: &String| name == "later" && !mended.load(Ordering::SeqCst);
            let noted = names.iter().filter(|name| !is_refused(name)).map(|name| happened(name, "tests.noted.v1"));
            tx.publish(&noted.collect::<Vec<_>>())?;
            let refused = || Err(Fault::new(&problems::STALE, "not before it is mended"));
            Ok(names.iter().map(|name| if is_refused(name) { refused() } else { Ok(()) }).collect())
        }),
    }
}

fn noted(db: &Db) -> Vec<String> {
    let events = db.read(|reader| platform::event_log::range(reader, 0, i64::MAX, &[], 10_000)).unwrap();
    events.into_iter().map(|event| event.subject).collect()
}

fn send(broker: &Broker, topic: &str, schema: Option<Schema>, messages: Vec<Message>) {
    let client = broker.client();
    broker.runtime.block_on(async {
        let options = ProducerOptions { schema, block_queue_if_full: true, ..ProducerOptions::default() };
        let mut producer = client.producer().with_topic(topic).with_options(options).build().await.unwrap();
        let mut receipts = Vec::new();
        for message in messages {
            receipts.push(producer.send_non_blocking(message).await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
        producer.close().await.unwrap();
    });
}

fn raw(payload: impl Into<Vec<u8>>, properties: &[(&str, &str)]) -> Message {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Message { payload: payload.into(), properties, ..Message::default() }
}

fn subscribe(broker: &Broker, topic: &str) -> Subscription {
    let how = SubscriptionOptions::raw("avisos", vec![topic.to_owned()]);
    Subscription::new(broker.options.clone(), how).unwrap()
}

/// Feeds the inlet until `done`, for five seconds at most; answers how many became letters.
fn until(subscription: &mut Subscription, db: &Db, inlet: &Inlet<String>, done: impl Fn(usize) -> bool) -> usize {
    let (began, mut dead) = (Instant::now(), 0);
    while !done(dead) {
        assert!(began.elapsed() < Duration::from_secs(5), "{dead} letters, {:?}", noted(db));
        dead += subscription.feed(db, inlet).unwrap().dead;
    }
    dead
}

fn backlog(broker: &Broker, topic: &str, subscription: &str) -> i64 {
    let text = broker.admin("GET", &format!("{}/stats", topic.replacen("://", "/", 1)), "").1;
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    stats["subscriptions"][subscription]["msgBacklog"].as_i64().unwrap()
}

#[test]
fn messages_without_key_or_id_have_their_effect_once_and_ours_are_not_taken_in_again() {
    let Some((broker, topic)) = foreign("messages without a key") else { return };
    let (db, inlet) = (database(None), notes(Arc::default()));
    let there = topic.clone();
    let translate = Box::new(move |_: &Reader<'_>, events: &[EventRecord]| {
        let content = |event: &EventRecord| Content::Json(json!({ "quien": event.subject }));
        Ok(events.iter().map(|event| message(&there, None, content(event))).collect())
    });
    let outlet = Outlet { name: "avisos", types: vec!["tests.noted.v1"], translate };
    let bridge = Bridge::new(broker.options.clone(), outlet, db.clone());
    let mut relay = Relay::new(Box::new(Polling), Box::new(bridge));
    let repeated = || raw(r#"{"quien":"a"}"#, &[]);
    let named = |id: &str, text: &str| raw(text, &[("event_id", id)]);
    let first = r#"{"quien":"b"}"#;
    send(
        &broker,
        &topic,
        None,
        vec![
            repeated(),
            repeated(),
            named("1", first),
            named("2", first),
            named("1", r#"{ "quien": "b" }"#),
            // Of another installation.
            raw(r#"{"quien":"c"}"#, &[(ORIGIN, "elsewhere")]),
        ],
    );
    let mut subscription = subscribe(&broker, &topic);
    until(&mut subscription, &db, &inlet, |_| noted(&db).len() == 4);
    // What was taken in goes out on the same topic, and does not come in again.
    while relay.step(&db, kernel::Duration::ZERO).unwrap() != Step::Idle {}
    send(&broker, &topic, None, vec![raw(r#"{"quien":"last"}"#, &[])]);
    until(&mut subscription, &db, &inlet, |_| noted(&db).len() == 5);
    subscription.close();
    assert_eq!(noted(&db), ["a", "b", "b", "c", "last"]);
    assert_eq!((broker.read(&topic, 11).len(), backlog(&broker, &topic, "avisos")), (11, 0));
}

#[test]
fn avro_of_a_foreign_schema_comes_as_a_document() {
    let Some((broker, topic)) = foreign("Avro of a foreign schema") else { return };
    let (db, inlet) = (database(None), notes(Arc::default()));
    let declared = |definition: &str| Schema {
        name: "Aviso".to_owned(),
        schema_data: definition.as_bytes().to_vec(),
        r#type: Type::Avro.into(),
        properties: Vec::new(),
    };
    let good = [&[2, 2, 6][..], b"Ana", &[0]].concat();
    // More than fit in memory: what is asked about the first must not wait for the last.
    send(&broker, &topic, Some(declared(SCHEMA)), vec![raw(good.clone(), &[]); 1_500]);
    send(
        &broker,
        &topic,
        Some(declared(SCHEMA)),
        vec![
            raw([good.as_slice(), &[9]].concat(), &[]),
            raw(vec![2, 2, 0xff], &[]),
            // A version that there is not.
            Message { schema_version: Some(99_i64.to_be_bytes().to_vec()), ..raw(good.clone(), &[]) },
        ],
    );
    let grown = SCHEMA
        .replace(r#"{"name":"quien""#, r#"{"name":"fecha","type":["null","long"],"default":null},{"name":"quien""#);
    send(&broker, &topic, Some(declared(&grown)), vec![raw([&[2, 2, 8, 2, 10][..], b"Berta", &[0]].concat(), &[])]);
    let mut subscription = subscribe(&broker, &topic);
    let dead = until(&mut subscription, &db, &inlet, |dead| noted(&db).len() + dead >= 5);
    assert_eq!(noted(&db), ["Ana", "Berta"]);
    let letters = broker.read(&format!("{topic}-avisos-DLQ"), dead);
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.properties["dead_reason"].as_str()).collect();
    assert_eq!((reasons.len(), reasons[0]), (3, "1 bytes follow after the end of the record"));
    assert!(reasons[1].contains("does not fit the schema") && reasons[2].contains("not on the broker"), "{reasons:?}");
    assert_eq!(letters[0].properties["dead_schema_version"], "0");
}

#[test]
fn a_crash_between_effect_and_acknowledgement_has_each_effect_once() {
    let Some((broker, topic)) = foreign("a crash of an inlet") else { return };
    let (db, inlet) = (database(None), notes(Arc::default()));
    let messages = (0..300).map(|n| raw(format!("{{\"quien\":\"{n}\"}}"), &[])).collect();
    send(&broker, &topic, None, messages);
    let mut seen = 0;
    for _ in 0..3 {
        let mut subscription = subscribe(&broker, &topic);
        let _ = subscription.step(|messages| {
            let part = &messages[..messages.len().min(100)];
            seen += part.len();
            let incoming: Vec<_> = part.iter().map(log_pulsar::Inbound::incoming).collect();
            assert_eq!(inlet.take(&db, "alpes", &incoming)?.len(), 0);
            // Committed, and the process is gone before it can acknowledge.
            Err(Fault::new(&problems::UNAVAILABLE, "killed"))
        });
    }
    let before = noted(&db).len();
    until(&mut subscribe(&broker, &topic), &db, &inlet, |_| noted(&db).len() == 300);
    assert!(seen > before, "some came again: {seen}, {before}");
    assert_eq!(noted(&db).into_iter().collect::<BTreeSet<_>>().len(), 300);
}

fn letters(broker: &Broker, topic: &str, wanted: Wanted, reason: Option<&str>, limit: usize) -> Vec<Letter> {
    let (topic, subscription) = (topic.to_owned(), "avisos".to_owned());
    let letters = Letters { topic, subscription, wanted, reason: reason.map(str::to_owned), limit };
    letters.run(&broker.options).unwrap()
}

#[test]
fn letters_tell_why_and_go_back_to_their_topic_after_the_repair() {
    let Some((broker, topic)) = foreign("letters go back") else { return };
    assert_eq!(letters(&broker, &topic, Wanted::Replay, None, 10).len(), 0, "there are none yet");
    let mended = Arc::new(AtomicBool::new(false));
    let (db, inlet) = (database(None), notes(mended.clone()));
    let keyed = |key: &str, message: Message| Message { partition_key: Some(key.to_owned()), ..message };
    let large = |letter: &str| format!("{{\"quien\":{}}}", letter.repeat(5_242_860 - 9));
    send(
        &broker,
        &topic,
        None,
        vec![
            raw("{", &[]),
            keyed("k", raw(r#"{"quien":"later"}"#, &[("event_id", "1"), ("mine", "yes")])),
            keyed("k", raw(r#"{"quien":"after"}"#, &[])),
            raw(large("7"), &[]),
            raw(r#"{"quien":"good"}"#, &[]),
        ],
    );
    let mut subscription = subscribe(&broker, &topic);
    until(&mut subscription, &db, &inlet, |dead| dead == 3 && noted(&db).len() == 2);
    let seen = letters(&broker, &topic, Wanted::Look, None, 10);
    let told: Vec<_> = seen.iter().map(|letter| (letter.reason.split(':').next().unwrap(), letter.fate)).collect();
    assert_eq!(told, [("invalid", Fate::Left), ("stale", Fate::Left), ("invalid", Fate::Left)]);
    assert_eq!((seen[1].key.as_deref(), seen[2].payload_bytes), (Some("k"), large("7").len()));
    mended.store(true, Ordering::SeqCst);
    let fates = |letters: Vec<Letter>| letters.into_iter().map(|letter| letter.fate).collect::<Vec<_>>();
    assert_eq!(fates(letters(&broker, &topic, Wanted::Replay, Some("mended"), 10)), [Fate::Sent]);
    until(&mut subscription, &db, &inlet, |_| noted(&db).len() == 3);
    let again = broker.read(&topic, 6).pop().unwrap();
    assert_eq!((again.key.as_deref(), again.payload.as_slice()), (Some("k"), r#"{"quien":"later"}"#.as_bytes()));
    let properties = [("event_id", "1"), ("mine", "yes")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(again.properties, BTreeMap::from(properties), "nothing of the letter goes along");
    // What is still wrong comes back as a letter; what was cut cannot go.
    assert_eq!(fates(letters(&broker, &topic, Wanted::Replay, None, 10)), [Fate::Sent, Fate::Incomplete]);
    until(&mut subscription, &db, &inlet, |dead| dead == 1);
    assert_eq!(fates(letters(&broker, &topic, Wanted::Skip, None, 1)), [Fate::Skipped]);
    assert_eq!(letters(&broker, &topic, Wanted::Look, None, 10).len(), 1);
    assert_eq!(fates(letters(&broker, &topic, Wanted::Skip, None, 10)), [Fate::Skipped]);
    assert_eq!((noted(&db).len(), backlog(&broker, &format!("{topic}-avisos-DLQ"), "letters")), (3, 0));
}

#[test]
fn a_letter_that_is_sent_twice_has_its_effect_once() {
    let Some((broker, topic)) = foreign("a letter that is sent twice") else { return };
    let mended = Arc::new(AtomicBool::new(false));
    let (db, inlet) = (database(None), notes(mended.clone()));
    send(&broker, &topic, None, vec![raw(r#"{"quien":"later"}"#, &[])]);
    let mut subscription = subscribe(&broker, &topic);
    until(&mut subscription, &db, &inlet, |dead| dead == 1);
    mended.store(true, Ordering::SeqCst);
    // As a crash between the receipt and the acknowledgement would: the message is on its topic, and the letter still there.
    send(&broker, &topic, None, vec![raw(r#"{"quien":"later"}"#, &[])]);
    assert_eq!(letters(&broker, &topic, Wanted::Replay, None, 10).len(), 1);
    send(&broker, &topic, None, vec![raw(r#"{"quien":"end"}"#, &[])]);
    until(&mut subscription, &db, &inlet, |_| noted(&db).contains(&"end".to_owned()));
    assert_eq!(noted(&db), ["later", "end"]);
}
