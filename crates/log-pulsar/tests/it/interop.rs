//! The official Python client, in the environment that `.ci/run` installs: it reads every topic with its schema, and what it
//! sends does not stop us.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use log_pulsar::{Encoding, Options, PulsarSink, Subscription, SubscriptionOptions, topics};
use platform::Sink;
use serde_json::Value;

use crate::broker::{Broker, samples, suspended};

/// What the script prints; none when the client is not installed.
fn python(options: &Options, what: &str, kind: &str, count: usize) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let interpreter = root.join("target/tools/pulsar/bin/python");
    if !interpreter.exists() {
        println!("NOT RUN: {what}: the Python client is not installed (.ci/run installs it)");
        return None;
    }
    let output = Command::new(interpreter)
        .arg(root.join("tests/interop/pulsar_client.py"))
        .args([what, &options.service_url, &format!("{}/{}", options.tenant, options.namespace)])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas"))
        .args([kind, &count.to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_official_client_reads_every_topic_with_its_schema() {
    for (encoding, kind) in [(Encoding::Json, "JSON"), (Encoding::Avro, "AVRO")] {
        let Some(mut broker) = Broker::find("the official client reads") else { return };
        let locals = topics::status(&broker.options).unwrap();
        let locals = locals.iter().map(|status| status.topic.rsplit('/').next().unwrap().to_owned());
        broker.options.encodings = locals.map(|local| (local, encoding)).collect();
        topics::setup(&broker.options).unwrap();
        let sent = samples();
        PulsarSink::new(broker.options.clone()).unwrap().deliver(&sent).unwrap();
        let Some(lines) = python(&broker.options, "consume", kind, sent.len()) else { return };
        let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["properties"]["ce_sequence"].as_str().unwrap().parse::<i64>().unwrap());
        assert_eq!(lines.len(), sent.len());
        for (line, event) in lines.iter_mut().zip(&sent) {
            assert_eq!(line["key"], event.subject);
            assert_eq!(line["properties"]["ce_type"], event.event_type);
            without_nulls(&mut line["value"]);
            assert_eq!(line["value"], serde_json::from_str::<Value>(&event.payload).unwrap(), "{}", event.event_type);
        }
    }
}

/// Avro has every field of the topic, null where the event has none.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[test]
fn what_the_official_client_sends_does_not_stop_us() {
    let Some(broker) = Broker::find("the official client disturbs") else { return };
    topics::setup(&broker.options).unwrap();
    let Some(line) = python(&broker.options, "disturb", "JSON", 0) else { return };
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["refused"].as_array().map(Vec::len), Some(2), "{told}");
    PulsarSink::new(broker.options.clone()).unwrap().deliver(&[suspended(1, 1, "fine")]).unwrap();
    let topic = broker.options.topic("partners.partner");
    let how = SubscriptionOptions::new("steady", vec![topic.clone()]);
    let mut subscription = Subscription::new(broker.options.clone(), how).unwrap();
    let (mut good, mut dead) = (0, 0);
    let began = Instant::now();
    // The message of six million bytes came in two chunks.
    let expected = usize::try_from(told["sent"].as_u64().unwrap()).unwrap() + 1;
    while good < 1 || dead < expected {
        let progress = subscription.step(|messages| {
            good += messages.len();
            Ok(())
        });
        dead += progress.unwrap().dead;
        assert!(began.elapsed() < Duration::from_secs(10), "{good} good, {dead} of {expected} dead");
    }
    for letter in broker.read(&format!("{topic}-steady-DLQ"), dead) {
        assert!(!letter.properties["dead_reason"].is_empty());
    }
}
