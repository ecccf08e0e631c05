//! Subscriptions: everything comes, each key in order, effects once, and what is no event goes to the dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kernel::{EventRecord, Fault, IdSource, ManualClock, Result, Timestamp};
use log_pulsar::{Encoding, Inbound, Options, PulsarSink, Subscription, SubscriptionOptions, topics};
use platform::{Db, DbOptions, Lane, Sink, inbox};
use pulsar::ProducerOptions;
use pulsar::producer::Message;
use pulsar::proto::{Schema, schema::Type};

use crate::broker::{Broker, samples, suspended};

fn all_topics(options: &Options) -> Vec<String> {
    topics::status(options).unwrap().into_iter().map(|status| status.topic).collect()
}

fn partners(options: &Options) -> Vec<String> {
    vec![options.topic("partners.partner")]
}

fn subscribe(broker: &Broker, name: &str, topics: Vec<String>) -> Subscription {
    Subscription::new(broker.options.clone(), SubscriptionOptions::new(name, topics)).unwrap()
}

/// Steps until `done`, at most for 30 seconds.
fn until(
    subscription: &mut Subscription,
    mut handle: impl FnMut(&[Inbound]) -> Result<()>,
    mut done: impl FnMut() -> bool,
) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not come to an end");
        if let Err(fault) = subscription.step(&mut handle) {
            println!("{fault}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn every_event_comes_back_as_it_went_in_json_and_in_avro() {
    let Some(mut broker) = Broker::find("every event comes back") else { return };
    for encoding in [Encoding::Json, Encoding::Avro] {
        let locals = all_topics(&broker.options);
        broker.options.namespace += if encoding == Encoding::Avro { "-avro" } else { "" };
        let locals = locals.iter().map(|topic| (topic.rsplit('/').next().unwrap().to_owned(), encoding));
        broker.options.encodings = locals.collect();
        topics::setup(&broker.options).unwrap();
        let sent = samples();
        PulsarSink::new(broker.options.clone()).unwrap().deliver(&sent).unwrap();
        let received = std::cell::RefCell::new(BTreeMap::<i64, EventRecord>::new());
        let mut subscription = subscribe(&broker, "all", all_topics(&broker.options));
        let take = |messages: &[Inbound]| {
            for message in messages {
                let event = message.event.clone().unwrap();
                assert_eq!((message.id(), message.redeliveries), (event.id.to_string().as_str(), 0));
                received.borrow_mut().insert(event.position, event);
            }
            Ok(())
        };
        until(&mut subscription, take, || received.borrow().len() == sent.len());
        subscription.close();
        for (mut sent, mut received) in sent.into_iter().zip(received.into_inner().into_values()) {
            let json = |event: &mut EventRecord| {
                serde_json::from_str::<serde_json::Value>(&std::mem::take(&mut event.payload)).unwrap()
            };
            assert_eq!(json(&mut received), json(&mut sent));
            assert_eq!(received, sent);
        }
        let status = topics::status(&broker.options).unwrap();
        assert!(status.iter().all(|topic| topic.backlogs == BTreeMap::from([("all".to_owned(), 0)])), "{status:?}");
    }
    broker.remove(&broker.options.namespace);
    broker.options.namespace = broker.options.namespace.trim_end_matches("-avro").to_owned();
}

/// Sends whatever it is given, but with the topic's schema declared, or the broker would not take it.
fn send_raw(broker: &Broker, topic: &str, messages: Vec<Message>, batch: Option<u32>) {
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/partners.partner.avsc");
    let definition: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
    let schema = Schema {
        name: "partners.partner".to_owned(),
        schema_data: definition.to_string().into_bytes(),
        r#type: Type::Json.into(),
        properties: Vec::new(),
    };
    let client = broker.client();
    broker.runtime.block_on(async {
        let options = ProducerOptions { schema: Some(schema), batch_size: batch, ..ProducerOptions::default() };
        let mut producer = client.producer().with_topic(topic).with_options(options).build().await.unwrap();
        let mut receipts = Vec::new();
        for message in messages {
            receipts.push(producer.send_non_blocking(message).await.unwrap());
        }
        if batch.is_some() {
            producer.send_batch().await.unwrap();
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
        producer.close().await.unwrap();
    });
}

fn raw(event: &EventRecord) -> Message {
    let properties = [
        ("ce_id", event.id.to_string()),
        ("ce_type", event.event_type.clone()),
        ("ce_subject", event.subject.clone()),
        ("ce_time", event.time.to_string()),
        ("ce_sequence", event.position.to_string()),
    ];
    Message {
        payload: event.payload.clone().into_bytes(),
        properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        partition_key: Some(event.subject.clone()),
        ..Message::default()
    }
}

#[test]
fn what_is_no_event_becomes_a_letter_with_a_reason_while_other_keys_go_on() {
    let Some(broker) = Broker::find("what is no event") else { return };
    topics::setup(&broker.options).unwrap();
    let topic = &partners(&broker.options)[0];
    let good = |position| suspended(position, 1, "a reason");
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = raw(&suspended(100, 2, "a reason"));
        change(&mut message);
        message
    };
    let property = |name: &'static str, value: &'static str| {
        changed(&move |message| {
            message.properties.insert(name.to_owned(), value.to_owned());
        })
    };
    let planted = [
        (changed(&|message| message.payload = vec![0xff, 0xfe, 0, 1]), "the payload is no partners.suspended.v1"),
        (
            changed(&|message| message.payload = b"{\"partner_id\": 7}".to_vec()),
            "the payload is no partners.suspended.v1",
        ),
        (changed(&|message| message.payload = vec![b'x'; 5 * 1024 * 1024 - 2_000]), "are too many for an event"),
        (property("ce_type", "partners.suspended.v9"), "\"partners.suspended.v9\" is not known: a newer version"),
        (property("ce_type", "conversions.recorded.v1"), "does not belong on this topic"),
        (property("ce_subject", "ptr_00000000000000000000000000"), "ce_subject is"),
        (property("ce_id", "evt_1"), "ce_id: expected an id"),
        (
            changed(&|message| message.partition_key = Some("forged".to_owned())),
            "the key is \"forged\", but the payload",
        ),
        (changed(&|message| message.partition_key = None), "the key is \"missing\""),
        (changed(&|message| message.properties.clear()), "the property ce_type is missing"),
    ];
    let mut messages = vec![raw(&good(1))];
    messages.extend(planted.iter().map(|(message, _)| message.clone()));
    messages.push(raw(&good(2)));
    send_raw(&broker, topic, messages, None);
    let mut subscription = subscribe(&broker, "strict", partners(&broker.options));
    let received = std::cell::RefCell::new(Vec::new());
    let began = Instant::now();
    let dead = std::cell::Cell::new(0);
    while received.borrow().len() < 2 || dead.get() < planted.len() {
        let progress = subscription.step(|messages| {
            received.borrow_mut().extend(messages.iter().map(|message| message.event.clone().unwrap().position));
            Ok(())
        });
        dead.set(dead.get() + progress.unwrap().dead);
        assert!(began.elapsed() < Duration::from_secs(5), "{} letters, {received:?}", dead.get());
    }
    assert_eq!(*received.borrow(), [1, 2]);
    let letters = broker.read(&format!("{topic}-strict-DLQ"), planted.len());
    for ((message, reason), letter) in planted.iter().zip(letters) {
        let said = &letter.properties["dead_reason"];
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(letter.key, message.partition_key);
        assert_eq!(
            (letter.properties["dead_subscription"].as_str(), &letter.properties["REAL_TOPIC"]),
            ("strict", topic)
        );
        match letter.properties.get("dead_payload_bytes") {
            Some(bytes) => assert_eq!(bytes, &message.payload.len().to_string()),
            None => assert_eq!(letter.payload, message.payload),
        }
    }
    subscription.close();
    let status = topics::status(&broker.options).unwrap();
    let status = status.iter().find(|status| &status.topic == topic).unwrap();
    assert_eq!(status.backlogs["strict"], 0);
}

#[test]
fn a_failing_key_holds_back_its_own_messages_and_at_last_becomes_a_letter() {
    let Some(broker) = Broker::find("a failing key") else { return };
    topics::setup(&broker.options).unwrap();
    let topic = &partners(&broker.options)[0];
    let events: Vec<_> =
        (0..30_u8).map(|n| suspended(n.into(), n % 3, if n == 3 { "poison" } else { "fine" })).collect();
    let mut sink = PulsarSink::new(broker.options.clone()).unwrap();
    sink.deliver(&events[..15]).unwrap();
    let mut subscription = subscribe(&broker, "patient", partners(&broker.options));
    let done = std::cell::RefCell::new(Vec::<i64>::new());
    let failures = std::cell::RefCell::new(Vec::new());
    let handle = |messages: &[Inbound]| {
        if let Some(poison) = messages.iter().find(|message| message.payload.windows(6).any(|word| word == b"poison")) {
            if messages.len() == 1 {
                failures.borrow_mut().push((poison.redeliveries, Instant::now(), done.borrow().len()));
                assert!(failures.borrow().len() % 2 == 0, "a panic is a failure too");
            }
            return Err(Fault::internal("it fails"));
        }
        done.borrow_mut().extend(messages.iter().map(|message| message.event.as_ref().unwrap().position));
        Ok(())
    };
    until(&mut subscription, handle, || !failures.borrow().is_empty());
    // The later half comes while the key waits.
    sink.deliver(&events[15..]).unwrap();
    until(&mut subscription, handle, || done.borrow().len() == 29);
    let failures = failures.into_inner();
    assert_eq!(failures.iter().map(|failure| failure.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(failures[4].1 - failures[0].1 > Duration::from_millis(1_400), "the delays grow");
    // Before the last attempt the two other keys and the message before the poison were through.
    assert_eq!(failures[4].2, 21);
    let done = done.into_inner();
    for key in 0..3 {
        let of_key: Vec<i64> = done.iter().copied().filter(|position| position % 3 == key).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
    let letter = broker.read(&format!("{topic}-patient-DLQ"), 1).remove(0);
    assert!(
        letter.properties["dead_reason"].contains("it fails") || letter.properties["dead_reason"].contains("panic")
    );
    assert_eq!((letter.properties["dead_attempts"].as_str(), letter.properties["ce_sequence"].as_str()), ("5", "3"));
}

pub(crate) fn database() -> Db {
    let clock = std::sync::Arc::new(ManualClock::at(Timestamp::from_micros(1_769_860_800_000_000)));
    let migrations = vec![platform::MIGRATIONS];
    Db::in_memory(DbOptions { clock, ids: IdSource::from_number(1), hook: None, migrations }).unwrap()
}

/// Claims the messages and notes the fresh ones in the same transaction, as events of our own log.
fn once(db: &Db, messages: &[Inbound]) -> Result<()> {
    db.write("effect", Lane::Back, "tester", |tx| {
        let ids: Vec<&str> = messages.iter().map(Inbound::id).collect();
        let fresh = inbox::claim(tx, "effect", &ids)?;
        let fresh = messages.iter().zip(fresh).filter(|(_, fresh)| *fresh);
        let notes: Vec<kernel::NewEvent> = fresh.map(|(message, _)| note(message.id())).collect();
        tx.publish(&notes)?;
        Ok(())
    })
}

fn note(subject: &str) -> kernel::NewEvent {
    kernel::NewEvent {
        event_type: "tests.noted.v1",
        aggregate: "test",
        subject: subject.to_owned(),
        payload: "{}".to_owned(),
        causation_id: None,
        correlation_id: None,
    }
}

/// The effects so far, in order.
fn effects(db: &Db) -> Vec<String> {
    let notes = db.read(|reader| platform::event_log::range(reader, 0, i64::MAX, &[], 100_000)).unwrap();
    notes.into_iter().map(|note| note.subject).collect()
}

#[test]
fn a_batch_of_another_publisher_is_not_acknowledged_before_its_last_message() {
    let Some(broker) = Broker::find("batches of others") else { return };
    topics::setup(&broker.options).unwrap();
    let topic = &partners(&broker.options)[0];
    let events: Vec<_> =
        (1..=6).map(|n| suspended(n, u8::try_from(n).unwrap(), if n == 2 { "bad" } else { "fine" })).collect();
    send_raw(&broker, topic, events.iter().map(raw).collect(), Some(6));
    let mut subscription = subscribe(&broker, "batches", partners(&broker.options));
    let done = std::cell::RefCell::new(BTreeSet::new());
    let refuse_one = |messages: &[Inbound]| {
        if messages.iter().any(|message| message.payload.windows(3).any(|word| word == b"bad")) {
            return Err(Fault::internal("not now"));
        }
        done.borrow_mut().extend(messages.iter().map(|message| message.event.as_ref().unwrap().position));
        Ok(())
    };
    until(&mut subscription, refuse_one, || done.borrow().len() == 5);
    // It goes away while one message of the batch waits: that one must come again.
    subscription.close();
    let mut subscription = subscribe(&broker, "batches", partners(&broker.options));
    let accept = |messages: &[Inbound]| {
        done.borrow_mut().extend(messages.iter().map(|message| message.event.as_ref().unwrap().position));
        Ok(())
    };
    let backlog = || {
        let status = topics::status(&broker.options).unwrap();
        status.iter().find(|status| &status.topic == topic).unwrap().backlogs["batches"]
    };
    until(&mut subscription, accept, || done.borrow().len() == 6 && backlog() == 0);
}

#[test]
fn a_broker_that_does_not_answer_is_given_up_in_time() {
    let Some(broker) = Broker::alone("a broker that does not answer") else { return };
    if std::env::var_os("ALPES_TEST_PULSAR_CONTROL").is_none() {
        println!("NOT RUN: a broker that does not answer: ALPES_TEST_PULSAR_CONTROL names no program that stops it");
        return;
    }
    topics::setup(&broker.options).unwrap();
    let events: Vec<_> = (0..100_i32).map(|n| suspended(n.into(), u8::try_from(n % 11).unwrap(), "fine")).collect();
    let mut sink = PulsarSink::new(broker.options.clone()).unwrap();
    let mut subscription = subscribe(&broker, "waiting", partners(&broker.options));
    let db = database();
    sink.deliver(&events[..50]).unwrap();
    until(&mut subscription, |messages| once(&db, messages), || effects(&db).len() == 50);
    Broker::control("pause");
    let began = Instant::now();
    let fault = sink.deliver(&events[50..]).unwrap_err();
    let took = began.elapsed();
    let step = Instant::now();
    let _ = subscription.step(|messages| once(&db, messages));
    let step = step.elapsed();
    Broker::control("resume");
    println!("{fault} after {took:?}, the step took {step:?}");
    assert_eq!(fault.code(), "broker_unavailable", "{fault}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(step < Duration::from_secs(5), "{step:?}");
    while let Err(fault) = sink.deliver(&events[50..]) {
        println!("{fault}");
    }
    until(&mut subscription, |messages| once(&db, messages), || effects(&db).len() == 100);
    in_order(&events, &effects(&db));
}

/// Whether the effects of each of eleven keys came in the order of their events.
fn in_order(events: &[EventRecord], effects: &[String]) {
    let places: BTreeMap<String, i64> = events.iter().map(|event| (event.id.to_string(), event.position)).collect();
    let mut last = [-1; 11];
    for effect in effects {
        let position = places[effect];
        let key = usize::try_from(position % 11).unwrap();
        assert!(last[key] < position, "{} before {position}", last[key]);
        last[key] = position;
    }
}

#[test]
fn a_killed_broker_is_a_fault_and_after_its_restart_everything_arrives_in_order() {
    let Some(broker) = Broker::alone("a killed broker") else { return };
    if std::env::var_os("ALPES_TEST_PULSAR_CONTROL").is_none() {
        println!("NOT RUN: a killed broker: ALPES_TEST_PULSAR_CONTROL names no program that stops and starts it");
        return;
    }
    topics::setup(&broker.options).unwrap();
    let events: Vec<_> = (0..20_000_i32).map(|n| suspended(n.into(), u8::try_from(n % 11).unwrap(), "fine")).collect();
    let mut sink = PulsarSink::new(broker.options.clone()).unwrap();
    // Killed when a quarter is through, however fast that is; it comes back after the sink has given up once, which it does
    // not before ten seconds.
    let (mut restart, mut gave_up) = (None, None);
    let db = database();
    let mut subscription = subscribe(&broker, "enduring", partners(&broker.options));
    let mut faults = 0;
    let mut done = 0;
    while done < events.len() {
        let slice = &events[done..events.len().min(done + 512)];
        if done >= events.len() / 4 && restart.is_none() {
            Broker::control("stop");
            let (given_up, waits) = std::sync::mpsc::channel();
            gave_up = Some(given_up);
            restart = Some(std::thread::spawn(move || {
                waits.recv().unwrap();
                Broker::control("start");
            }));
        }
        match sink.deliver(slice) {
            Ok(()) => done += slice.len(),
            Err(fault) => {
                faults += 1;
                assert_eq!(fault.code(), "broker_unavailable", "{fault}");
                if let Some(given_up) = gave_up.take() {
                    given_up.send(()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        if let Err(fault) = subscription.step(|messages| once(&db, messages)) {
            println!("{fault}");
        }
    }
    restart.expect("a quarter was through").join().unwrap();
    assert!(faults > 0, "the broker was killed in the middle");
    until(&mut subscription, |messages| once(&db, messages), || effects(&db).len() == events.len());
    in_order(&events, &effects(&db));
}
