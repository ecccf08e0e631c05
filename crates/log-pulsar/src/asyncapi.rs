//! What is told on the broker, for those who are not of this house: an AsyncAPI 3 document, made from the published
//! language and from the schemas that `topics::setup` brings to the broker. Whoever adds topics of another kind adds a
//! function that answers their [`Channel`]s and a line in `channels`; the rest follows.

use std::collections::BTreeMap;

use kernel::{Descriptor, PayloadSchema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::message::property;
use crate::options::{Encoding, Options};
use crate::schema;

const VERSION: &str = "3.0.0";
const BINDING: &str = "0.1.0";
const SCHEMAS: &str = "#/components/schemas/";
/// The headers that every event has.
const EVENT_HEADERS: &str = "CloudEventHeaders";
/// The headers that a command may have.
const COMMAND_HEADERS: &str = "CommandHeaders";

/// Who writes on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// We do.
    Sends,
    /// Others do.
    Receives,
}

impl Direction {
    const fn action(self) -> &'static str {
        match self {
            Self::Sends => "send",
            Self::Receives => "receive",
        }
    }
}

/// A topic and what is on it.
struct Channel {
    /// The topic's local name.
    local: String,
    direction: Direction,
    description: String,
    /// By the name of the message.
    messages: BTreeMap<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    asyncapi: &'static str,
    info: Value,
    default_content_type: &'static str,
    servers: Value,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    components: Value,
}

/// Named schemas, each of which means the same wherever it is named.
#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    fn add(&mut self, name: String, schema: Value) -> Result<(), String> {
        match self.0.insert(name.clone(), schema.clone()) {
            Some(other) if other != schema => {
                Err(format!("two types of the published language are called {name}: give one of them another name"))
            }
            _ => Ok(()),
        }
    }
}

/// The document as YAML, with the commands of `options`. Fails where the published language contradicts itself: a test of
/// this crate sees it first.
pub fn page(options: &Options) -> Result<String, String> {
    let mut schemas = Schemas::default();
    let all = channels(options, &mut schemas)?;
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for channel in all {
        let Channel { local, direction, .. } = &channel;
        operations.insert(format!("{local}.{}", direction.action()), operation(&channel));
        channels.insert(local.clone(), described(&channel, options));
        messages.extend(channel.messages);
    }
    let document = Document {
        asyncapi: VERSION,
        info: info(),
        default_content_type: Encoding::Json.content_type(),
        servers: servers(options),
        channels,
        operations,
        components: json!({ "messages": messages, "schemas": schemas.0 }),
    };
    let text = serde_norway::to_string(&document).map_err(|error| error.to_string())?;
    Ok(format!("# Generated from the code: `cargo x docs`.\n{text}"))
}

fn info() -> Value {
    json!({
        "title": "Alpes on Apache Pulsar",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Every change of state as a message, at least once, those of one aggregate in order. The key of a \
            message is the aggregate's id (`ce_partitionkey`). `ce_id` tells a message that comes again. Event types and \
            fields are only ever added. A topic is written in JSON or, where the installation says so, in Avro \
            (`ce_datacontenttype`); topics that were made with partitions are the same under their partitions' names.",
        "license": { "name": env!("CARGO_PKG_LICENSE") },
    })
}

fn servers(options: &Options) -> Value {
    let server = |protocol: &str, port: &str, description: &str| {
        json!({
            "host": "{host}:{port}",
            "protocol": protocol,
            "description": format!("{description} A token, if the broker asks for one, is the installation's matter."),
            "variables": {
                "host": { "description": "A broker or its proxy.", "default": "localhost" },
                "port": { "description": "Its binary protocol.", "default": port },
            },
            "bindings": { "pulsar": { "tenant": options.tenant, "bindingVersion": BINDING } },
        })
    };
    json!({
        "plain": server("pulsar", "6650", "The broker in a private network."),
        "encrypted": server("pulsar+ssl", "6651", "The broker by TLS."),
    })
}

/// Every topic.
fn channels(options: &Options, schemas: &mut Schemas) -> Result<Vec<Channel>, String> {
    schemas.add(EVENT_HEADERS.to_owned(), event_headers())?;
    schemas.add(COMMAND_HEADERS.to_owned(), command_headers())?;
    let mut all = events(schemas)?;
    all.extend(commands(options, schemas)?);
    Ok(all)
}

/// The topics of commands.
fn commands(options: &Options, schemas: &mut Schemas) -> Result<Vec<Channel>, String> {
    let mut found = Vec::new();
    for (local, PayloadSchema { payload, named }) in &options.commands {
        for (name, schema) in named {
            schemas.add(name.clone(), schema.clone())?;
        }
        let name = format!("{local}.v1");
        schemas.add(name.clone(), payload.clone())?;
        let definition = schema::of_command(local, &options.commands[local])?.definition;
        let kind = local.split_once('.').map_or(local.as_str(), |(_, kind)| kind);
        let message = |name: &str, encoding: Encoding, payload: Value| {
            let headers = json!({ property::TYPE: { "const": format!("{local}.v1") } });
            let summary = format!(
                "Record a {kind}: the body of `POST /v1/{kind}s`. The key is its `external_id`, or there is none."
            );
            let mut message = message(name, &summary, encoding, COMMAND_HEADERS, &headers);
            message["payload"] = payload;
            message
        };
        let avro = format!("{local}.avro");
        let messages = BTreeMap::from([
            (name.clone(), message(&name, Encoding::Json, reference(SCHEMAS, &name))),
            (avro.clone(), message(&avro, Encoding::Avro, avro_payload(&definition))),
        ]);
        let description = format!(
            "A {kind} that is to be recorded, once however often it comes. What is wrong with it is the reason of its dead \
             letter."
        );
        found.push(Channel { local: local.clone(), direction: Direction::Receives, description, messages });
    }
    Ok(found)
}

/// The topics of the published language.
fn events(schemas: &mut Schemas) -> Result<Vec<Channel>, String> {
    let catalogue = events::catalogue();
    let mut found = Vec::new();
    for topic in schema::all()?.into_values() {
        let mut messages = BTreeMap::new();
        for event in catalogue.iter().filter(|event| topic.types.contains(&event.event_type)) {
            messages.insert(event.event_type.to_owned(), event_message(event, schemas)?);
        }
        messages.insert(format!("{}.avro", topic.local), avro_message(&topic));
        let (context, aggregate) = topic.local.split_once('.').unwrap_or(("", &topic.local));
        let description = format!("What the context {context} tells about the aggregate {aggregate}.");
        found.push(Channel { local: topic.local, direction: Direction::Sends, description, messages });
    }
    Ok(found)
}

/// An event in JSON.
fn event_message(event: &Descriptor, schemas: &mut Schemas) -> Result<Value, String> {
    let PayloadSchema { payload, named } = (event.schema)();
    for (name, schema) in named {
        schemas.add(name, schema)?;
    }
    schemas.add(event.event_type.to_owned(), payload)?;
    let sample: Value = serde_json::from_str(&(event.sample)()).map_err(|error| error.to_string())?;
    let headers = json!({
        property::TYPE: { "const": event.event_type },
        property::DATASCHEMA: { "const": format!("urn:alpes:event:{}", event.event_type) },
        property::DATACONTENTTYPE: { "const": Encoding::Json.content_type() },
    });
    let mut message = message(event.event_type, event.meaning, Encoding::Json, EVENT_HEADERS, &headers);
    message["payload"] = reference(SCHEMAS, event.event_type);
    message["examples"] = json!([{ "payload": sample }]);
    Ok(message)
}

/// Any event of a topic in Avro: the topic has one record for all of them.
fn avro_message(topic: &schema::TopicSchema) -> Value {
    let headers = json!({
        property::TYPE: { "enum": topic.types },
        property::DATACONTENTTYPE: { "const": Encoding::Avro.content_type() },
    });
    let summary = "Any event of this topic, where the installation chose Avro: a record with the fields of all of them, null \
        where the event has none.";
    let mut message = message(&format!("{}.avro", topic.local), summary, Encoding::Avro, EVENT_HEADERS, &headers);
    message["payload"] = avro_payload(&topic.definition);
    message
}

fn avro_payload(definition: &Value) -> Value {
    json!({ "schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": definition })
}

fn message(name: &str, summary: &str, encoding: Encoding, all: &str, headers: &Value) -> Value {
    json!({
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": encoding.content_type(),
        "correlationId": { "location": format!("$message.header#/{}", property::CORRELATIONID) },
        "headers": {
            "allOf": [reference(SCHEMAS, all), { "type": "object", "properties": headers }],
        },
    })
}

/// The attributes of CloudEvents as properties of a message, as the sink writes them.
fn event_headers() -> Value {
    let text = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    let required = [
        (property::ID, text("The event's id: the same when it comes again.")),
        (property::SOURCE, text("The installation that tells it.")),
        (property::SPECVERSION, json!({ "type": "string", "const": "1.0", "description": "Of CloudEvents." })),
        (property::TYPE, text("`<context>.<fact in the past>.v<n>`.")),
        (property::SUBJECT, text("The aggregate that it is about.")),
        (property::TIME, json!({ "type": "string", "format": "date-time", "description": "When it became known." })),
        (property::DATASCHEMA, text("Names the payload's shape.")),
        (property::DATACONTENTTYPE, text("How the payload is written.")),
        (property::PARTITIONKEY, text("The message's key: the aggregate.")),
        (
            property::SEQUENCE,
            json!({ "type": "string", "pattern": "^[1-9][0-9]*$", "description": "Its position in the log of all events." }),
        ),
        (property::ACTOR, text("Who did it.")),
    ];
    let optional = [
        (property::CORRELATIONID, text("What the client sent to find its own traces.")),
        (property::CAUSATIONID, text("The event that this one follows from.")),
    ];
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        required.into_iter().chain(optional).map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "properties": properties, "required": names })
}

/// What a command may say of itself.
fn command_headers() -> Value {
    let properties = json!({
        property::TYPE: { "type": "string", "description": "What it is, with its version; the topic tells it too." },
        property::CORRELATIONID: {
            "type": "string", "minLength": 1, "maxLength": 200,
            "description": "What its sender finds the traces in our events by: visible ASCII without spaces.",
        },
    });
    json!({ "type": "object", "properties": properties })
}

fn described(channel: &Channel, options: &Options) -> Value {
    let Channel { local, description, messages, .. } = channel;
    let refs: Map<String, Value> =
        messages.keys().map(|name| (name.clone(), reference("#/components/messages/", name))).collect();
    let parameter = |description: &str, value: &str| json!({ "description": description, "default": value });
    json!({
        "address": format!("persistent://{{tenant}}/{{namespace}}/{local}"),
        "title": local,
        "description": description,
        "parameters": {
            "tenant": parameter("The tenant of the topics.", &options.tenant),
            "namespace": parameter("The namespace of the topics.", &options.namespace),
        },
        "messages": refs,
        "bindings": { "pulsar": {
            "namespace": options.namespace,
            "persistence": "persistent",
            "retention": { "time": options.retention_minutes },
            "bindingVersion": BINDING,
        } },
    })
}

fn operation(channel: &Channel) -> Value {
    let Channel { local, direction, description, messages } = channel;
    let place = format!("#/channels/{local}/messages/");
    json!({
        "action": direction.action(),
        "channel": reference("#/channels/", local),
        "summary": description,
        "messages": messages.keys().map(|name| reference(&place, name)).collect::<Vec<_>>(),
    })
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("{place}{name}") })
}
