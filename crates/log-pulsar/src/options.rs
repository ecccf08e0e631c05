//! Where the broker is, and what its topics are called.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{PayloadSchema, Result};

use crate::faults;

/// How payloads are written on a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// The event's own JSON.
    #[default]
    Json,
    /// Avro binary.
    Avro,
}

impl Encoding {
    /// What the attribute `datacontenttype` says.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Avro => "application/avro",
        }
    }
}

/// Where the broker is, and what its topics are called.
#[derive(Clone)]
pub struct Options {
    /// The brokers: `pulsar://host:6650` or `pulsar+ssl://host:6651`.
    pub service_url: String,
    /// The admin REST interface: `http://host:8080` or `https://host:8443`.
    pub admin_url: String,
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// A token that the broker knows; none: the broker asks for none.
    pub token: Option<String>,
    /// What the attribute `source` says; also what marks bridged messages as ours.
    pub source: String,
    /// The encodings of topics, by local name (`conversions.conversion`), where they are not JSON.
    pub encodings: BTreeMap<String, Encoding>,
    /// The topics of commands by local name (`commands.conversion`), each with the schema of what is asked for.
    pub commands: BTreeMap<String, PayloadSchema>,
    /// The partitions of topics that `topics::setup` creates; 0: not partitioned, one order for the whole topic.
    pub partitions: u32,
    /// How long the broker keeps messages that every subscription has acknowledged; -1: for ever. The log in the
    /// database keeps every event anyway, so a week is enough to wind a subscription back.
    pub retention_minutes: i64,
    /// How much of them it keeps, in megabytes; -1: without limit.
    pub retention_megabytes: i64,
}

impl Options {
    /// The defaults: `persistent://public/alpes/…`, JSON, not partitioned, seven days of retention.
    pub fn new(service_url: impl Into<String>, admin_url: impl Into<String>) -> Self {
        Self {
            service_url: service_url.into(),
            admin_url: admin_url.into(),
            tenant: "public".to_owned(),
            namespace: "alpes".to_owned(),
            token: None,
            source: "alpes".to_owned(),
            encodings: BTreeMap::new(),
            commands: BTreeMap::new(),
            partitions: 0,
            retention_minutes: 7 * 24 * 60,
            retention_megabytes: -1,
        }
    }

    /// The topic with this local name: `persistent://{tenant}/{namespace}/{local}`.
    pub fn topic(&self, local: &str) -> String {
        format!("persistent://{}/{}/{local}", self.tenant, self.namespace)
    }

    /// How payloads are written on the topic with this local name.
    pub fn encoding(&self, local: &str) -> Encoding {
        self.encodings.get(local).copied().unwrap_or_default()
    }

    /// The local names of all topics that `topics::setup` makes.
    pub(crate) fn locals(&self) -> BTreeSet<String> {
        local_topics().into_iter().chain(self.commands.keys().cloned()).collect()
    }

    /// Whether every named encoding belongs to a topic. Fault: `broker_refused`, with the names that exist.
    pub(crate) fn check(&self) -> Result<()> {
        let known = self.locals();
        match self.encodings.keys().find(|local| !known.contains(*local)) {
            None => Ok(()),
            Some(unknown) => {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                Err(faults::refused(self, &format!("there is no topic {unknown}; there are {}", names.join(", ")), ""))
            }
        }
    }
}

impl std::fmt::Debug for Options {
    /// Without the token: it must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service_url, admin_url, tenant, namespace, .. } = self;
        write!(f, "{service_url} ({admin_url}) {tenant}/{namespace}")
    }
}

/// The local name of the topic of an event: its context, the first part of its type, and its aggregate.
pub(crate) fn local_topic(event_type: &str, aggregate: &str) -> String {
    let context = event_type.split_once('.').map_or(event_type, |(context, _)| context);
    format!("{context}.{aggregate}")
}

/// The local names of all topics of events.
pub(crate) fn local_topics() -> BTreeSet<String> {
    events::catalogue().iter().map(|event| local_topic(event.event_type, event.aggregate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_catalogue_has_its_topic() {
        let topics = local_topics();
        assert!(topics.contains("conversions.conversion") && topics.contains("payments.payout_item"), "{topics:?}");
        let options = Options::new("pulsar://broker:6650", "http://broker:8080");
        assert_eq!(options.topic("conversions.touch"), "persistent://public/alpes/conversions.touch");
    }

    #[test]
    fn a_misspelt_topic_is_refused_and_a_token_is_not_shown() {
        let mut options = Options::new("pulsar://broker:6650", "http://broker:8080");
        options.token = Some("a secret".to_owned());
        options.check().unwrap();
        assert!(!format!("{options:?}").contains("secret"));
        options.encodings.insert("conversion".to_owned(), Encoding::Avro);
        let fault = options.check().unwrap_err();
        assert!(fault.detail().contains("conversions.conversion"), "{fault}");
    }
}
