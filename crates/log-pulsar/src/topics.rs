//! The topics on the broker: setting them up, and asking how they are, by the admin interface.

use std::collections::BTreeMap;

use kernel::{Fault, Result};
use pulsar::proto::{self, schema::Type};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::options::{Encoding, Options};
use crate::schema::{self, TopicSchema};

/// The subscription on topics of dead letters by which operators see to them.
pub(crate) const LETTERS: &str = "letters";

/// How a topic is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicStatus {
    /// Its full name.
    pub topic: String,
    /// Whether the broker has it.
    pub exists: bool,
    /// Its partitions; 0: not partitioned.
    pub partitions: u32,
    /// The version of its schema, from 0; none: it has no schema.
    pub schema_version: Option<i64>,
    /// What each subscription has not acknowledged yet, in messages.
    pub backlogs: BTreeMap<String, i64>,
    /// What is stored, in bytes.
    pub stored_bytes: i64,
}

/// Makes the broker ready: tenant and namespace where they are absent and may be created, their policies, and every
/// topic with its schema. Run again it changes nothing; run with a newer version it adds that version's schemas.
///
/// In the namespace, schemas must be compatible with all earlier ones in both directions, only this function brings new
/// ones, and nobody can produce without one. Messages that are acknowledged stay for the time of the options.
pub fn setup(options: &Options) -> Result<()> {
    options.check()?;
    let admin = Admin::new(options);
    let Options { tenant, namespace, .. } = options;
    make_tenant(&admin, tenant)?;
    let place = format!("namespaces/{tenant}/{namespace}");
    // Somebody may have made it for us, and not let us make one.
    if admin.get(&place)?.is_none() {
        admin.put(&place, &json!({}))?;
    }
    admin.put(&format!("{place}/schemaCompatibilityStrategy"), &json!("FULL_TRANSITIVE"))?;
    admin.post(&format!("{place}/schemaValidationEnforced"), &json!(true))?;
    admin.post(&format!("{place}/isAllowAutoUpdateSchema"), &json!(false))?;
    let retention = json!({
        "retentionTimeInMinutes": options.retention_minutes,
        "retentionSizeInMB": options.retention_megabytes,
    });
    admin.post(&format!("{place}/retention"), &retention)?;
    let commands = options.commands.iter().map(|(local, schema)| schema::of_command(local, schema));
    let commands: Vec<TopicSchema> = commands.collect::<Result<_, _>>().map_err(Fault::internal)?;
    for TopicSchema { local, definition, .. } in schema::all().map_err(Fault::internal)?.into_values().chain(commands) {
        let topic = format!("persistent/{tenant}/{namespace}/{local}");
        match (options.partitions, admin.get(&format!("{topic}/partitions"))?) {
            // Partitions are never changed here: a key would continue on another one, and lose its order.
            (_, Some(there)) if there["partitions"].as_i64().is_some_and(|count| count > 0) => {}
            (0, _) => admin.put(&topic, &json!({}))?,
            (count, _) => admin.put(&format!("{topic}/partitions"), &json!(count))?,
        }
        let kind = match options.encoding(&local) {
            Encoding::Json => "JSON",
            Encoding::Avro => "AVRO",
        };
        let body = json!({ "type": kind, "schema": definition.to_string(), "properties": {} });
        admin.post(&format!("schemas/{tenant}/{namespace}/{local}/schema"), &body)?;
    }
    Ok(())
}

/// A token that may only administer the namespace cannot ask about its tenant: then the namespace's own answer decides.
fn make_tenant(admin: &Admin<'_>, tenant: &str) -> Result<()> {
    let place = format!("tenants/{tenant}");
    let (status, _) = admin.call(ureq::http::Method::GET, &place, None)?;
    if status != 404 {
        return Ok(());
    }
    let clusters = admin.get("clusters")?.unwrap_or_else(|| json!([]));
    admin.put(&place, &json!({ "allowedClusters": clusters }))
}

/// How every topic is, in the order of names.
pub fn status(options: &Options) -> Result<Vec<TopicStatus>> {
    let admin = Admin::new(options);
    // A question about a topic in a namespace that is not there makes the broker set something up for it.
    let there = admin.get(&format!("namespaces/{}/{}", options.tenant, options.namespace))?.is_some();
    options.locals().into_iter().map(|local| one(&admin, options, &local, there)).collect()
}

fn one(admin: &Admin<'_>, options: &Options, local: &str, there: bool) -> Result<TopicStatus> {
    let Options { tenant, namespace, .. } = options;
    if !there {
        return Ok(TopicStatus {
            topic: options.topic(local),
            exists: false,
            partitions: 0,
            schema_version: None,
            backlogs: BTreeMap::new(),
            stored_bytes: 0,
        });
    }
    let place = format!("persistent/{tenant}/{namespace}/{local}");
    let metadata = admin.get(&format!("{place}/partitions"))?.unwrap_or_default();
    let partitions = metadata["partitions"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let stats = admin.get(&format!("{place}/{}", if partitions == 0 { "stats" } else { "partitioned-stats" }))?;
    let schema = admin.get(&format!("schemas/{tenant}/{namespace}/{local}/schema"))?;
    Ok(TopicStatus {
        topic: options.topic(local),
        exists: stats.is_some(),
        partitions,
        schema_version: schema.and_then(|schema| schema["version"].as_i64()),
        backlogs: stats.as_ref().map(backlogs_of).unwrap_or_default(),
        stored_bytes: stats.and_then(|stats| stats["storageSize"].as_i64()).unwrap_or(0),
    })
}

fn backlogs_of(stats: &Value) -> BTreeMap<String, i64> {
    let subscriptions = stats["subscriptions"].as_object().into_iter().flatten();
    subscriptions.map(|(name, state)| (name.clone(), state["msgBacklog"].as_i64().unwrap_or(0))).collect()
}

/// What each subscription has not acknowledged, for every topic of the namespace, dead letters included, by full names. For
/// a look from time to time: it gives up soon.
pub fn backlogs(options: &Options) -> Result<BTreeMap<String, BTreeMap<String, i64>>> {
    let admin = Admin::aside(options);
    let place = format!("{}/{}", options.tenant, options.namespace);
    if admin.get(&format!("namespaces/{place}"))?.is_none() {
        return Ok(BTreeMap::new());
    }
    let names = |path: &str| -> Result<Vec<String>> {
        let found = admin.get(path)?.unwrap_or_default();
        Ok(found.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
    };
    let partitioned = names(&format!("persistent/{place}/partitioned"))?;
    let plain = names(&format!("persistent/{place}"))?;
    // A partition is told with its topic.
    let plain = plain.into_iter().filter(|name| !name.contains("-partition-")).map(|name| (name, "stats"));
    let partitioned = partitioned.into_iter().map(|name| (name, "partitioned-stats"));
    let mut found = BTreeMap::new();
    for (name, which) in plain.chain(partitioned) {
        let stats = admin.get(&format!("{}/{which}", name.replacen("://", "/", 1)))?;
        found.insert(name, stats.as_ref().map(backlogs_of).unwrap_or_default());
    }
    Ok(found)
}

/// The broker's statistics of a topic, of all its partitions together; none when there is no such topic.
pub(crate) fn statistics(options: &Options, topic: &str) -> Result<Option<Value>> {
    let admin = Admin::aside(options);
    let place = topic.replacen("://", "/", 1);
    match admin.get(&format!("{place}/stats")) {
        Ok(Some(stats)) => Ok(Some(stats)),
        Err(fault) if fault.kind() == kernel::Kind::Unavailable => Err(fault),
        // A topic with partitions has no statistics of its own.
        _ => admin.get(&format!("{place}/partitioned-stats")),
    }
}

/// The schema of a topic in this version, or the newest; none when there is none. One of a kind that nobody need declare has
/// the kind `None`.
pub(crate) fn schema_at(options: &Options, topic: &str, version: Option<i64>) -> Result<Option<proto::Schema>> {
    let place = topic.split_once("://").map_or(topic, |(_, place)| place);
    let version = version.map_or_else(String::new, |version| format!("/{version}"));
    let found = Admin::aside(options).get(&format!("schemas/{place}/schema{version}"))?;
    Ok(found.map(|schema| {
        let kind = match schema["type"].as_str().unwrap_or_default() {
            "JSON" => Type::Json,
            "AVRO" => Type::Avro,
            "STRING" => Type::String,
            _ => Type::None,
        };
        let schema_data = schema["data"].as_str().unwrap_or_default().as_bytes().to_vec();
        proto::Schema { name: place.to_owned(), schema_data, r#type: kind.into(), properties: Vec::new() }
    }))
}

/// Creates the topic for dead letters with a subscription of its own, so that letters wait until somebody has seen to
/// them and are not forgotten with the retention. A broker that does not let us leaves it to the producer to try.
pub(crate) fn make_letters_topic(options: &Options, topic: &str) {
    let admin = Admin::aside(options);
    let place = topic.replacen("://", "/", 1);
    let made =
        admin.put(&place, &json!({})).and_then(|()| admin.put(&format!("{place}/subscription/{LETTERS}"), &json!({})));
    if let Err(fault) = made {
        tracing::warn!(topic, %fault, "the topic of dead letters could not be prepared");
    }
}
