//! The AsyncAPI document of `docs/`: it is one by the rules of AsyncAPI, and a running relay emits what it says and nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use apache_avro::reader::datum::GenericDatumReader;
use kernel::{Duration, NewEvent};
use log_pulsar::{Encoding, Options, PulsarSink, topics};
use platform::{Lane, Polling, Relay, Step};
use serde_json::{Value, json};

use crate::broker::{Broker, Raw};
use crate::subscription::database;

/// Makes something wrong.
type Plant<'p, T> = &'p dyn Fn(&mut T);

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/asyncapi.yaml");
    serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The rules of AsyncAPI 3.0.0 as its project publishes them: `schemas/3.0.0.json` of `@asyncapi/specs` 6.11.1
/// (Apache-2.0), packed.
fn rules() -> jsonschema::Validator {
    let packed = include_bytes!("../asyncapi-3.0.0.json.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_document_keeps_the_rules_of_asyncapi() {
    let (rules, document) = (rules(), document());
    let broken = |document: &Value| rules.iter_errors(document).map(|error| error.to_string()).collect::<Vec<_>>();
    assert_eq!(broken(&document), Vec::<String>::new());
    let planted: [(&str, Plant<'_, Value>); 5] = [
        ("an unknown field", &|document| document["channels"]["partners.partner"]["topic"] = json!("x")),
        ("an unknown action", &|document| document["operations"]["partners.partner.send"]["action"] = json!("tell")),
        ("no host", &|document| {
            document["servers"]["plain"].as_object_mut().unwrap().remove("host");
        }),
        ("an unknown persistence", &|document| {
            document["channels"]["partners.partner"]["bindings"]["pulsar"]["persistence"] = json!("perhaps");
        }),
        ("a type that there is not", &|document| {
            document["components"]["schemas"]["partners.suspended.v1"]["type"] = json!("thing");
        }),
    ];
    for (what, plant) in planted {
        let mut document = document.clone();
        plant(&mut document);
        assert!(!broken(&document).is_empty(), "{what} is not found");
    }
}

/// Every `$ref` leads somewhere.
#[test]
fn nothing_in_the_document_leads_nowhere() {
    let document = document();
    let mut open = vec![&document];
    let mut count = 0;
    while let Some(value) = open.pop() {
        if let Some(place) = value["$ref"].as_str() {
            assert!(document.pointer(place.trim_start_matches('#')).is_some(), "{place}");
            count += 1;
        }
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(count > 100, "{count}");
}

/// The document as a judge of messages.
struct Judge {
    document: Value,
    /// The same parts, but an object has no fields that are not named.
    strict: Value,
}

impl Judge {
    fn new(document: Value) -> Self {
        let mut strict = document["components"].clone();
        close(&mut strict["schemas"]);
        Self { document, strict }
    }

    /// The addresses that Alpes sends to, with the channel of each.
    fn addresses(&self, options: &Options) -> BTreeMap<String, &Value> {
        let operations = self.document["operations"].as_object().unwrap().values();
        let sent = operations.filter(|operation| operation["action"] == "send").map(|operation| {
            let place = operation["channel"]["$ref"].as_str().unwrap();
            let channel = self.document.pointer(place.trim_start_matches('#')).unwrap();
            let address = channel["address"].as_str().unwrap();
            let address = address.replace("{tenant}", &options.tenant).replace("{namespace}", &options.namespace);
            (address, channel)
        });
        sent.collect()
    }

    fn accepts(&self, place: &str, value: &Value) -> Result<(), String> {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "allOf": [{ "$ref": place }],
            "components": self.strict,
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let found: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }

    /// Why the message is not one that the document tells of.
    fn judge(&self, options: &Options, topic: &str, raw: &Raw) -> Result<(), String> {
        let addresses = self.addresses(options);
        let channel = addresses.get(topic).ok_or_else(|| format!("no channel has the address {topic}"))?;
        let headers = json!(raw.properties);
        let known = &self.document["components"]["schemas"]["CloudEventHeaders"]["properties"];
        if let Some(unknown) = raw.properties.keys().find(|name| known[name.as_str()].is_null()) {
            return Err(format!("the header {unknown} is not named"));
        }
        let names = channel["messages"].as_object().unwrap().keys();
        let fitting: Vec<&String> = names
            .filter(|name| self.accepts(&format!("#/components/messages/{name}/headers"), &headers).is_ok())
            .collect();
        let [name] = fitting[..] else { return Err(format!("its headers fit {fitting:?}: {headers}")) };
        if raw.key != raw.properties.get("ce_partitionkey").cloned() {
            return Err(format!("the key {:?} is not the partition key", raw.key));
        }
        let message = &self.document["components"]["messages"][name];
        if message["contentType"] != headers["ce_datacontenttype"] {
            return Err(format!("the content type is {}", message["contentType"]));
        }
        if message["contentType"] == "application/json" {
            let payload = serde_json::from_slice(&raw.payload).map_err(|error| error.to_string())?;
            return self.accepts(message["payload"]["$ref"].as_str().unwrap(), &payload);
        }
        let schema = apache_avro::Schema::parse(&message["payload"]["schema"]).unwrap();
        let mut rest = raw.payload.as_slice();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        reader.read_value(&mut rest).map_err(|error| error.to_string())?;
        if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", rest.len())) }
    }
}

/// Objects have no fields that are not named.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.get("properties").is_some_and(Value::is_object) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Relays an event of every type, as a process does, and answers what lies on the topics then.
fn relayed(broker: &Broker) -> Vec<(String, Raw)> {
    topics::setup(&broker.options).unwrap();
    let db = database();
    let samples: Vec<NewEvent> = (0..)
        .zip(events::catalogue())
        .map(|(n, event)| {
            let payload = (event.sample)();
            let subject = (event.subject)(&payload).unwrap();
            let correlation_id = (n % 2 == 0).then(|| "order-7".to_owned());
            let causation_id = (n % 3 == 0).then(|| kernel::EventId::from_bytes([7; 16]));
            let (event_type, aggregate) = (event.event_type, event.aggregate);
            NewEvent { event_type, aggregate, subject, payload, causation_id, correlation_id }
        })
        .collect();
    db.write("test", Lane::Front, "tester", |tx| tx.publish(&samples)).unwrap();
    let sink = PulsarSink::new(broker.options.clone()).unwrap();
    let mut relay = Relay::new(Box::new(Polling), Box::new(sink));
    while relay.step(&db, Duration::ZERO).unwrap() != Step::Idle {}
    let place = format!("{}/{}", broker.options.tenant, broker.options.namespace);
    let topics = broker.admin("GET", &format!("persistent/{place}"), "").1;
    let topics: Vec<String> = serde_json::from_str(&topics).unwrap();
    let mut found = Vec::new();
    for topic in topics {
        let stats = broker.admin("GET", &format!("{}/stats", topic.replacen("://", "/", 1)), "").1;
        let stats: Value = serde_json::from_str(&stats).unwrap();
        let count = usize::try_from(stats["msgInCounter"].as_u64().unwrap()).unwrap();
        found.extend(broker.read(&topic, count).into_iter().map(|raw| (topic.clone(), raw)));
    }
    found
}

#[test]
fn what_a_relay_emits_is_what_the_document_says_and_nothing_else() {
    let judge = Judge::new(document());
    for encoding in [Encoding::Json, Encoding::Avro] {
        let Some(mut broker) = Broker::find("what a relay emits") else { return };
        let locals = topics::status(&broker.options).unwrap();
        let locals = locals.iter().map(|status| status.topic.rsplit('/').next().unwrap().to_owned());
        broker.options.encodings = locals.map(|local| (local, encoding)).collect();
        let found = relayed(&broker);
        for (topic, raw) in &found {
            judge.judge(&broker.options, topic, raw).unwrap_or_else(|why| panic!("{topic}: {why}: {raw:?}"));
        }
        let emitted: BTreeSet<&str> = found.iter().map(|(topic, _)| topic.as_str()).collect();
        let addresses = judge.addresses(&broker.options);
        assert_eq!(emitted, addresses.keys().map(String::as_str).collect(), "every channel, and no other topic");
        let types: BTreeSet<&str> = found.iter().map(|(_, raw)| raw.properties["ce_type"].as_str()).collect();
        assert_eq!(types, events::catalogue().iter().map(|event| event.event_type).collect());
        let described = addresses.values().flat_map(|channel| channel["messages"].as_object().unwrap().keys());
        let described: BTreeSet<&str> = described.map(String::as_str).filter(|name| !name.ends_with(".avro")).collect();
        assert_eq!(described, types, "nothing is described that is never emitted");
    }
}

#[test]
fn a_message_that_the_document_does_not_tell_of_is_found() {
    let (judge, options) = (Judge::new(document()), Options::new("", ""));
    let topic = options.topic("partners.partner");
    let id = kernel::PartnerId::from_bytes([1; 16]).to_string();
    let properties = [
        ("ce_id", "evt_1"),
        ("ce_source", "alpes"),
        ("ce_specversion", "1.0"),
        ("ce_type", "partners.suspended.v1"),
        ("ce_subject", &id),
        ("ce_time", "2026-01-31T12:00:00Z"),
        ("ce_dataschema", "urn:alpes:event:partners.suspended.v1"),
        ("ce_datacontenttype", "application/json"),
        ("ce_partitionkey", &id),
        ("ce_sequence", "1"),
        ("ce_actor", "tester"),
    ];
    let good = || Raw {
        key: Some(id.clone()),
        payload: json!({ "partner_id": id, "reason": "fine" }).to_string().into_bytes(),
        properties: properties.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        schema_version: None,
    };
    judge.judge(&options, &topic, &good()).unwrap();
    assert!(judge.judge(&options, &options.topic("partners.other"), &good()).unwrap_err().contains("no channel"));
    let planted: [(&str, Plant<'_, Raw>); 8] = [
        ("is not named", &|raw| drop(raw.properties.insert("ce_more".into(), "x".into()))),
        ("fit []", &|raw| drop(raw.properties.remove("ce_actor"))),
        ("fit []", &|raw| drop(raw.properties.insert("ce_type".into(), "partners.forgotten.v1".into()))),
        ("fit []", &|raw| drop(raw.properties.insert("ce_sequence".into(), "first".into()))),
        ("the key", &|raw| raw.key = Some("another".into())),
        ("more", &|raw| raw.payload = json!({ "partner_id": id, "more": 1 }).to_string().into_bytes()),
        ("partner_id", &|raw| raw.payload = b"{}".to_vec()),
        ("expected", &|raw| raw.payload = b"?".to_vec()),
    ];
    for (words, plant) in planted {
        let mut raw = good();
        plant(&mut raw);
        let why = judge.judge(&options, &topic, &raw).unwrap_err();
        assert!(why.contains(words), "{why:?} does not say {words:?}");
    }
}
