use std::sync::atomic::{AtomicU64, Ordering};

use kernel::problems;

use super::*;
use crate::event_log;
use crate::testing::{event, event_of, in_memory, int, publish};

/// Notes each body as an event; `no` is unreadable, `never` refused, `-` nothing for us, `fails` fails as a whole. What comes
/// before a colon is the message's own id.
fn inlet() -> Inlet<String> {
    Inlet {
        name: "notes",
        read: Box::new(|message, _| {
            let text = std::str::from_utf8(message.document).map_err(Fault::internal)?;
            let (id, body) = text.split_once(':').map_or((None, text), |(id, body)| (Some(id.to_owned()), body));
            match body {
                "no" => Err(Fault::new(&problems::INVALID, "no")),
                "-" => Ok(None),
                body => Ok(Some(Command { id, body: body.to_owned() })),
            }
        }),
        apply: Box::new(|tx, bodies| {
            if bodies.iter().any(|body| body == "fails") {
                return Err(Fault::internal("fails"));
            }
            let refused = |body: &String| body == "never";
            let notes: Vec<_> = bodies.iter().filter(|body| !refused(body)).map(|body| event(body)).collect();
            tx.publish(&notes)?;
            let answer = |body| if refused(body) { Err(Fault::new(&problems::STALE, "never")) } else { Ok(()) };
            Ok(bodies.iter().map(answer).collect())
        }),
    }
}

fn take(db: &Db, topic: &str, payloads: &[&str]) -> Result<Vec<(usize, &'static str)>> {
    let properties = BTreeMap::from([(ORIGIN.to_owned(), "elsewhere".to_owned())]);
    let messages: Vec<_> = payloads.iter().map(|payload| incoming(topic, &properties, payload)).collect();
    let refused = inlet().take(db, "here", &messages)?;
    Ok(refused.into_iter().map(|(place, fault)| (place, fault.code())).collect())
}

fn incoming<'m>(topic: &'m str, properties: &'m BTreeMap<String, String>, payload: &'m str) -> Incoming<'m> {
    Incoming { topic, key: None, properties, payload: payload.as_bytes(), document: payload.as_bytes() }
}

fn notes(db: &Db) -> Vec<String> {
    let events = db.read(|reader| event_log::range(reader, 0, i64::MAX, &[], 1_000)).unwrap();
    events.into_iter().map(|event| event.subject).collect()
}

#[test]
fn a_command_has_its_effect_once_whether_it_has_an_id_or_only_its_content() {
    let db = in_memory();
    assert_eq!(take(&db, "t", &["a", "a", "1:b", "1:other", "-"]).unwrap(), []);
    assert_eq!(take(&db, "t", &["a", "1:b", "c"]).unwrap(), []);
    assert_eq!(notes(&db), ["a", "b", "c"]);
    // Another topic's sender may use the same ids, and mean something else by the same words.
    assert_eq!(take(&db, "u", &["a", "1:b"]).unwrap(), []);
    assert_eq!(notes(&db), ["a", "b", "c", "a", "b"]);
    let log = db.read(|reader| event_log::at(reader, &[1])).unwrap();
    assert_eq!(log[0].actor, "notes");
}

#[test]
fn what_is_refused_is_answered_with_its_reason_and_not_claimed_and_the_others_go_on() {
    let db = in_memory();
    assert_eq!(take(&db, "t", &["a", "never", "no", "b"]).unwrap(), [(1, "stale"), (2, "invalid")]);
    assert_eq!((notes(&db), int(&db, "SELECT COUNT(*) FROM inbox")), (vec!["a".to_owned(), "b".to_owned()], 2));
    assert_eq!(take(&db, "t", &["never"]).unwrap(), [(0, "stale")], "it is asked again, not passed over");
}

#[test]
fn a_fault_of_the_whole_leaves_nothing_behind() {
    let db = in_memory();
    assert_eq!(take(&db, "t", &["a", "fails"]).unwrap_err().code(), "internal");
    assert_eq!((notes(&db).len(), int(&db, "SELECT COUNT(*) FROM inbox")), (0, 0));
    assert_eq!(take(&db, "t", &["a"]).unwrap(), []);
    assert_eq!(notes(&db), ["a"]);
}

#[test]
fn what_we_sent_ourselves_is_passed_over() {
    let db = in_memory();
    let ours = BTreeMap::from([(ORIGIN.to_owned(), "here".to_owned())]);
    assert_eq!(inlet().take(&db, "here", &[incoming("t", &ours, "a"), incoming("t", &ours, "no")]).unwrap().len(), 0);
    assert_eq!(notes(&db).len(), 0);
}

#[test]
fn two_and_five_hundred_messages_cost_the_same_statements() {
    let cost = |count: usize| {
        let db = in_memory();
        let payloads: Vec<String> = (0..count).map(|n| format!("{n:04}")).chain(["never".to_owned()]).collect();
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let before = db.stats().statements.load(Ordering::Relaxed);
        assert_eq!(take(&db, "t", &payloads).unwrap(), [(count, "stale")]);
        db.stats().statements.load(Ordering::Relaxed) - before
    };
    assert_eq!(cost(2), cost(500));
}

#[test]
fn an_outlet_translates_its_types_only_and_may_ask_tables() {
    let db = in_memory();
    publish(&db, &[event("a"), event_of("tests.ignored.v1", "b"), event("c")]);
    let asked = std::sync::Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let outlet = Outlet {
        name: "elsewhere",
        types: vec!["tests.happened.v1"],
        translate: Box::new(move |reader, events| {
            counted.fetch_add(1, Ordering::Relaxed);
            let head = event_log::head(reader)?;
            let message = |event: &EventRecord| Outgoing {
                topic: "t".to_owned(),
                key: Some(event.subject.clone()),
                properties: BTreeMap::new(),
                content: Content::Json(Value::from(head)),
                envelope: None,
            };
            Ok(events.iter().map(message).collect())
        }),
    };
    let events = db.read(|reader| event_log::range(reader, 0, i64::MAX, &[], 10)).unwrap();
    let messages = outlet.messages(&db, &events).unwrap();
    let told: Vec<_> = messages.iter().map(|message| (message.key.as_deref().unwrap(), &message.content)).collect();
    let head = Content::Json(Value::from(3));
    assert_eq!(told, [("a", &head), ("c", &head)]);
    assert_eq!(outlet.messages(&db, &events[1..2]).unwrap(), []);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "nobody is asked for nothing");
}
