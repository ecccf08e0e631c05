//! Intake: natural keys, refusals, cost.

use events::conversions::{Line, Recorded};
use kernel::{Amount, Money};

use crate::Fact;
use crate::testing::{day, key, refund, sale, terms, touch, usd, world};

#[test]
fn a_repeat_gets_the_first_answer_and_another_body_is_refused() {
    let world = world();
    let first = world.take(vec![sale("1", "anna", day(0)).into()]).remove(0);
    assert_eq!((first.kind, first.duplicate, first.recorded_at), ("conversion", false, day(0)));
    world.clock.set(day(1));
    let mut spelled_differently = sale("1", "anna", day(0));
    spelled_differently.metadata = None;
    let again = world.take(vec![spelled_differently.into()]).remove(0);
    assert_eq!(again, crate::Receipt { duplicate: true, ..first.clone() });
    let mut other = sale("1", "anna", day(0));
    other.amount = usd(10_001);
    let fault = world.record(vec![other.into()]).remove(0).unwrap_err();
    assert_eq!(fault.code(), "fact_differs");
    assert_eq!(world.told::<Recorded>().len(), 1);
    assert_eq!(world.find("1").amount.amount_minor, 10_000);
}

#[test]
fn inside_one_batch_the_second_is_a_repeat_and_a_bad_item_does_not_fail_its_neighbours() {
    let world = world();
    let mut other = sale("1", "anna", day(0));
    other.customer_ref = Some(key("bert"));
    let mut euros = sale("2", "anna", day(0));
    euros.amount = Amount::new(Money::new(1, "EUR".parse().unwrap())).unwrap();
    let mut corrected = euros.clone();
    corrected.amount = usd(1);
    let facts: Vec<Fact> = vec![
        sale("1", "anna", day(0)).into(),
        sale("1", "anna", day(0)).into(),
        other.into(),
        euros.into(),
        corrected.into(),
        touch("1", "anna", 1, day(0)).into(),
        refund("1", "1", Some(usd(10_001))).into(),
        refund("2", "1", Some(usd(10_000))).into(),
    ];
    let answers = world.record(facts);
    let words: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(receipt) => format!("{} {} {}", receipt.kind, receipt.external_id, receipt.duplicate),
            Err(fault) => fault.code().to_owned(),
        })
        .collect();
    let expected = [
        "conversion 1 false",
        "conversion 1 true",
        "fact_differs",
        "currency_mismatch",
        "conversion 2 false",
        "touch 1 false",
        "refund_exceeds_conversion",
        "refund 2 false",
    ];
    assert_eq!(words, expected);
    let positions: Vec<i64> = answers.iter().flatten().map(|receipt| receipt.position).collect();
    let first = positions[0];
    assert_eq!(positions, [first, first, first + 1, first + 2, first + 3]);
    for receipt in answers.iter().flatten() {
        let event = world.log().into_iter().find(|event| event.position == receipt.position).unwrap();
        assert_eq!(event.subject, receipt.id);
        assert!(event.payload.starts_with(&format!("{{\"{}_id\":\"{}\",\"source\":", receipt.kind, receipt.id)));
    }
    world.assert_verified();
}

#[test]
fn the_digest_sees_content_and_not_spelling() {
    let world = world();
    let parse = |json: &str| -> Fact { Fact::Conversion(serde_json::from_str(json).unwrap()) };
    let digest = |json: &str| world.prepare(parse(json)).unwrap().digest;
    let base = r#"{"source":"s","external_id":"1","occurred_at":"2026-01-31T12:00:00Z","amount":{"amount_minor":5,"currency":"USD"}"#;
    let one = digest(&format!(r#"{base},"metadata":{{"a":1,"b":{{"x":[1,2],"y":null}}}}}}"#));
    let moved = base.replace("12:00:00Z", "14:00:00+02:00");
    let two = digest(&format!(r#"{moved},"kind":"sale","metadata":{{"b":{{"y":null,"x":[1,2]}},"a":1}}}}"#));
    assert_eq!(one, two);
    let three = digest(&format!(r#"{base},"metadata":{{"a":1,"b":{{"x":[2,1],"y":null}}}}}}"#));
    assert_ne!(one, three);
    let (code, click) = (digest(&format!(r#"{base},"code":"A"}}"#)), digest(&format!(r#"{base},"click_id":"A"}}"#)));
    assert_ne!(code, click);
}

#[test]
fn what_cannot_be_is_refused_at_its_place() {
    let world = world();
    let refused = |fact: Fact, code: &str, pointer: &str| {
        let fault = world.prepare(fact).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), (code, pointer));
    };
    refused(sale("1", "a", day(2)).into(), "occurred_in_future", "/occurred_at");
    world.prepare(sale("1", "a", day(1)).into()).unwrap();
    let line = |amount_minor| Line { category: key("books"), amount_minor };
    let lines = |lines: Vec<Line>| Fact::Conversion(crate::NewConversion { lines, ..sale("1", "a", day(0)) });
    refused(lines(vec![line(9_999)]), "lines_do_not_sum", "/lines");
    refused(lines(vec![line(10_001), line(-1)]), "amount_negative", "/lines/1/amount_minor");
    refused(lines(vec![line(i64::MAX), line(i64::MAX)]), "lines_do_not_sum", "/lines");
    world.prepare(lines(vec![line(9_999), line(1)])).unwrap();
    let mut one_off = sale("1", "a", day(0));
    one_off.terms = Some(terms(3_651));
    refused(one_off.into(), "invalid", "/terms/hold_days");
    let mut chatty = sale("1", "a", day(0));
    chatty.metadata = Some([("a".to_owned(), "x".repeat(20_000).into())].into_iter().collect());
    refused(chatty.into(), "invalid", "/metadata");
    let unknown_field = r#"{"source":"s","external_id":"1","status":"paid"}"#;
    assert!(serde_json::from_str::<crate::NewConversion>(unknown_field).is_err());
}

#[test]
fn the_customer_is_in_no_event() {
    let mut world = world();
    let facts: Vec<Fact> = vec![
        touch("1", "anna@example.org", 1, day(-1)).into(),
        sale("1", "anna@example.org", day(0)).into(),
        refund("1", "1", None).into(),
    ];
    world.play(facts);
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 1));
    for event in world.log() {
        assert!(!event.payload.contains("anna") && !event.payload.contains("damaged"), "{}", event.payload);
    }
}

#[test]
fn two_and_five_hundred_items_cost_the_same_statements() {
    let cost = |count: usize| {
        let mut world = world();
        let facts = |from: usize| -> Vec<Fact> {
            let one = |n: usize| -> [Fact; 4] {
                let mut coded = sale(&format!("c{n}"), &format!("k{n}"), day(0));
                coded.code = Some(key("ONE"));
                let mut clicked = touch(&format!("x{n}"), &format!("k{n}"), 2, day(-1));
                clicked.click_id = Some(key(&format!("click-{n}")));
                let unknown = crate::NewConversion {
                    code: Some(key(&format!("NO{n}"))),
                    click_id: Some(key(&format!("click-{n}"))),
                    ..sale(&format!("u{n}"), &format!("k{n}"), day(0))
                };
                [clicked.into(), coded.into(), unknown.into(), refund(&format!("r{n}"), &format!("c{n}"), None).into()]
            };
            (from..from + count / 4 + 1).flat_map(one).collect()
        };
        world.run();
        let batch = facts(0);
        let start = world.statements();
        world.take(batch);
        let recorded = world.statements() - start;
        let start = world.statements();
        world.run();
        (recorded, world.statements() - start)
    };
    assert_eq!(cost(1), cost(508));
}
