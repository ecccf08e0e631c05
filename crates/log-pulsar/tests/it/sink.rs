//! The sink and the topics on the broker.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::{EventRecord, Kind};
use log_pulsar::{Encoding, Options, PulsarSink, Subscription, SubscriptionOptions, topics};
use platform::Sink;
use serde_json::{Value, json};

use crate::broker::{Broker, samples, suspended};

fn topic(options: &Options, event: &EventRecord) -> String {
    let context = event.event_type.split('.').next().unwrap();
    options.topic(&format!("{context}.{}", event.aggregate))
}

#[test]
fn every_event_type_arrives_with_its_properties_key_and_schema() {
    let Some(broker) = Broker::find("every event type arrives") else { return };
    topics::setup(&broker.options).unwrap();
    let events = samples();
    PulsarSink::new(broker.options.clone()).unwrap().deliver(&events).unwrap();
    let mut by_topic = BTreeMap::<String, Vec<&EventRecord>>::new();
    events.iter().for_each(|event| by_topic.entry(topic(&broker.options, event)).or_default().push(event));
    assert_eq!(by_topic.len(), topics::status(&broker.options).unwrap().len());
    for (topic, events) in by_topic {
        for (event, raw) in events.iter().zip(broker.read(&topic, events.len())) {
            assert_eq!(raw.key.as_deref(), Some(event.subject.as_str()));
            assert_eq!(raw.payload, event.payload.as_bytes());
            assert_eq!(raw.schema_version.as_deref(), Some(&0_i64.to_be_bytes()[..]), "{topic}");
            let mut expected = vec![
                ("ce_actor", "tester".to_owned()),
                ("ce_datacontenttype", "application/json".to_owned()),
                ("ce_dataschema", format!("urn:alpes:event:{}", event.event_type)),
                ("ce_id", event.id.to_string()),
                ("ce_partitionkey", event.subject.clone()),
                ("ce_sequence", event.position.to_string()),
                ("ce_source", "alpes".to_owned()),
                ("ce_specversion", "1.0".to_owned()),
                ("ce_subject", event.subject.clone()),
                ("ce_time", event.time.to_string()),
                ("ce_type", event.event_type.clone()),
            ];
            expected.extend(event.causation_id.map(|id| ("ce_causationid", id.to_string())));
            expected.extend(event.correlation_id.clone().map(|id| ("ce_correlationid", id)));
            let expected: BTreeMap<String, String> =
                expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(raw.properties, expected);
        }
    }
}

#[test]
fn setting_up_again_changes_nothing_and_the_status_tells_it() {
    let Some(mut broker) = Broker::find("setting up topics") else { return };
    assert!(topics::status(&broker.options).unwrap().iter().all(|topic| !topic.exists));
    broker.options.partitions = 2;
    topics::setup(&broker.options).unwrap();
    topics::setup(&broker.options).unwrap();
    let place = format!("namespaces/{}/{}", broker.options.tenant, broker.options.namespace);
    let policies: Value = serde_json::from_str(&broker.admin("GET", &place, "").1).unwrap();
    assert_eq!(policies["schema_compatibility_strategy"], "FULL_TRANSITIVE");
    assert_eq!(policies["retention_policies"]["retentionTimeInMinutes"], 7 * 24 * 60);
    PulsarSink::new(broker.options.clone()).unwrap().deliver(&samples()).unwrap();
    let status = topics::status(&broker.options).unwrap();
    for topic in &status {
        assert_eq!((topic.exists, topic.partitions, topic.schema_version), (true, 2, Some(0)), "{topic:?}");
    }
    assert!(status.iter().all(|topic| topic.stored_bytes > 0), "{status:?}");
}

#[test]
fn backlogs_are_told_by_topic_and_subscription_with_those_of_dead_letters() {
    for partitions in [0, 2] {
        let Some(mut broker) = Broker::find("backlogs") else { return };
        assert_eq!(topics::backlogs(&broker.options).unwrap(), BTreeMap::new(), "no namespace yet");
        broker.options.partitions = partitions;
        topics::setup(&broker.options).unwrap();
        let topic = broker.options.topic("partners.partner");
        let how = SubscriptionOptions::new("crm", vec![topic.clone()]);
        let mut subscription = Subscription::new(broker.options.clone(), how).unwrap();
        subscription.step(|_| Ok(())).unwrap();
        let mut sink = PulsarSink::new(broker.options.clone()).unwrap();
        sink.deliver(&[suspended(1, 1, "poison")]).unwrap();
        let hopeless = |_: &[log_pulsar::Inbound]| Err(kernel::Fault::new(&kernel::problems::INVALID, "no"));
        while subscription.step(hopeless).unwrap().dead == 0 {}
        subscription.close();
        sink.deliver(&[suspended(2, 1, "fine"), suspended(3, 2, "fine")]).unwrap();
        let expected = |name: &str, count: i64| BTreeMap::from([(name.to_owned(), count)]);
        let found = topics::backlogs(&broker.options).unwrap();
        assert_eq!(found[&topic], expected("crm", 2));
        assert_eq!(found[&format!("{topic}-crm-DLQ")], expected("letters", 1));
        assert_eq!(found.len(), topics::status(&broker.options).unwrap().len() + 1, "{found:?}");
    }
}

#[test]
fn the_order_of_each_key_is_kept_in_pipelined_slices() {
    let Some(mut broker) = Broker::find("the order of keys") else { return };
    broker.options.partitions = 3;
    topics::setup(&broker.options).unwrap();
    let mut sink = PulsarSink::new(broker.options.clone()).unwrap();
    let events: Vec<EventRecord> =
        (0..2_000_i32).map(|n| suspended(n.into(), u8::try_from(n % 37).unwrap(), &n.to_string())).collect();
    events.chunks(512).for_each(|slice| sink.deliver(slice).unwrap());
    let raws = broker.read(&broker.options.topic("partners.partner"), events.len());
    let mut last = BTreeMap::<String, i64>::new();
    for raw in raws {
        let position: i64 = raw.properties["ce_sequence"].parse().unwrap();
        let before = last.insert(raw.key.unwrap(), position);
        assert!(before.is_none_or(|before| before < position), "{before:?} before {position}");
    }
    assert_eq!(last.len(), 37);
}

#[test]
fn avro_topics_carry_avro() {
    let Some(mut broker) = Broker::find("Avro on topics") else { return };
    let locals = topics::status(&broker.options).unwrap();
    let locals = locals.iter().map(|status| status.topic.rsplit('/').next().unwrap().to_owned());
    broker.options.encodings = locals.map(|local| (local, Encoding::Avro)).collect();
    topics::setup(&broker.options).unwrap();
    let events = samples();
    PulsarSink::new(broker.options.clone()).unwrap().deliver(&events).unwrap();
    for event in &events {
        let topic = topic(&broker.options, event);
        let nth = events.iter().filter(|e| self::topic(&broker.options, e) == topic && e.position <= event.position);
        let raw = broker.read(&topic, nth.count()).pop().unwrap();
        assert_eq!(raw.properties["ce_datacontenttype"], "application/avro");
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let kept = std::fs::read_to_string(kept.join(format!("{}.avsc", topic.rsplit('/').next().unwrap()))).unwrap();
        let schema = apache_avro::Schema::parse_str(&kept).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        let record = reader.read_value(&mut raw.payload.as_slice()).unwrap();
        let text = format!("{record:?}");
        let subject = event.subject.split_once(':').map_or(event.subject.as_str(), |(_, id)| id);
        assert!(text.contains(subject), "{text}");
    }
}

#[test]
fn schemas_may_grow_in_both_directions_and_nothing_else_gets_in() {
    let Some(mut broker) = Broker::find("growing schemas") else { return };
    broker.options.encodings = BTreeMap::from([("conversions.conversion".to_owned(), Encoding::Avro)]);
    topics::setup(&broker.options).unwrap();
    for kind in ["JSON", "AVRO"] {
        let local = format!("conversions.{}", if kind == "AVRO" { "conversion" } else { "touch" });
        let place = format!("schemas/{}/{}/{local}/schema", broker.options.tenant, broker.options.namespace);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{local}.avsc"));
        let now: Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
        let offer = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut schema = now.clone();
            change(schema["fields"].as_array_mut().unwrap());
            let body = json!({ "type": kind, "schema": schema.to_string(), "properties": {} });
            broker.admin("POST", &place, &body.to_string()).0
        };
        let optional = |name: &str, kind: Value| json!({ "name": name, "type": ["null", kind], "default": null });
        let nested = json!({ "type": "record", "name": "nested", "fields": [optional("deep", json!("string"))] });
        // What a new field of an event, or a new event type on the topic, does to the schema.
        assert_eq!(offer(&|fields| fields.push(optional("new_field", json!("long")))), 200);
        assert_eq!(
            offer(&|fields| fields.extend([optional("new_field", json!("long")), optional("other", nested.clone())])),
            200
        );
        // Those before stay readable: everything is compared with every version.
        assert_eq!(offer(&|fields| fields.push(optional("new_field", json!("string")))), 409, "another type");
        assert_eq!(
            offer(&|fields| fields.push(json!({ "name": "must", "type": "long" }))),
            409,
            "a field that must be there"
        );
        assert_eq!(
            offer(&|fields| fields.push(optional("fourth", json!("long")))),
            200,
            "and the kept ones go on growing"
        );
        let status = topics::status(&broker.options).unwrap();
        let status = status.iter().find(|status| status.topic.ends_with(&local)).unwrap();
        assert_eq!(status.schema_version, Some(3));
        // An older version of the program still delivers, with its own version of the schema.
        let events: Vec<EventRecord> =
            samples().into_iter().filter(|event| local.ends_with(&event.aggregate)).collect();
        PulsarSink::new(broker.options.clone()).unwrap().deliver(&events).unwrap();
        let raws = broker.read(&broker.options.topic(&local), events.len());
        assert!(raws.iter().all(|raw| raw.schema_version.as_deref() == Some(&0_i64.to_be_bytes()[..])), "{raws:?}");
    }
}

#[test]
fn faults_name_the_broker_and_what_to_do() {
    let fault_of = |options: Options| PulsarSink::new(options).unwrap().deliver(&samples()[..1]).unwrap_err();
    let nobody = fault_of(Options::new("pulsar://127.0.0.1:9", "http://127.0.0.1:9"));
    assert_eq!((nobody.kind(), nobody.code()), (Kind::Unavailable, "broker_unavailable"), "{nobody}");
    assert!(nobody.detail().contains("pulsar://127.0.0.1:9"), "{nobody}");
    let fault = topics::setup(&Options::new("pulsar://127.0.0.1:9", "http://127.0.0.1:9")).unwrap_err();
    assert!(fault.detail().contains("http://127.0.0.1:9/admin"), "{fault}");
    let Some(broker) = Broker::find("faults of the broker") else { return };
    // No namespace: nobody ran the setup.
    let fault = fault_of(broker.options.clone());
    assert!(fault.detail().contains("partners.partner"), "{fault}");
    topics::setup(&broker.options).unwrap();
    // A topic with another schema.
    let mut other = broker.options.clone();
    other.encodings.insert("partners.partner".to_owned(), Encoding::Avro);
    let fault = topics::setup(&other).unwrap_err();
    assert!(fault.detail().contains("use the encoding that the topic has"), "{fault}");
    assert!(!fault.detail().contains('<'), "{fault}");
    let fault = fault_of(other.clone());
    assert_eq!(fault.code(), "broker_refused", "{fault}");
    assert!(fault.detail().contains("setup"), "{fault}");
    // And in a slice over all topics, of which the others are good.
    let fault = PulsarSink::new(other).unwrap().deliver(&samples()).unwrap_err();
    assert_eq!(fault.code(), "broker_refused", "{fault}");
}
