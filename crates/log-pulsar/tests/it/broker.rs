//! The broker of the tests, with a namespace for each test that is removed in the end.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use events::catalogue;
use futures_util::StreamExt;
use kernel::{Descriptor, EventId, EventRecord, Timestamp};
use log_pulsar::Options;
use pulsar::consumer::{InitialPosition, Message};
use pulsar::proto::MessageMetadata;
use pulsar::{Consumer, ConsumerOptions, Pulsar, SubType, TokioExecutor};
use tokio::runtime::Runtime;

/// A test that kills the broker must be alone with it.
static ALONE: RwLock<()> = RwLock::new(());

pub(crate) struct Broker {
    pub(crate) options: Options,
    pub(crate) runtime: Runtime,
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

/// A message as it lies on a topic.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) key: Option<String>,
    pub(crate) payload: Vec<u8>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) schema_version: Option<Vec<u8>>,
}

impl Broker {
    /// The broker with an empty namespace; none, and a line that says so, when no broker is named.
    pub(crate) fn find(test: &str) -> Option<Self> {
        Self::named(test, false)
    }

    /// The broker, and nobody else uses it meanwhile.
    pub(crate) fn alone(test: &str) -> Option<Self> {
        Self::named(test, true)
    }

    fn named(test: &str, alone: bool) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (Ok(service), Ok(admin)) = (std::env::var("ALPES_TEST_PULSAR"), std::env::var("ALPES_TEST_PULSAR_ADMIN"))
        else {
            println!("NOT RUN: {test}: ALPES_TEST_PULSAR and ALPES_TEST_PULSAR_ADMIN name no broker");
            return None;
        };
        let mut options = Options::new(service, admin);
        options.namespace = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = (!alone).then(|| ALONE.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let alone = alone.then(|| ALONE.write().unwrap_or_else(std::sync::PoisonError::into_inner));
        Some(Self { options, runtime, _shared: shared, _alone: alone })
    }

    /// Kills the broker (`stop`), starts it and waits until it is well (`start`), makes it stand still (`pause`) or go on
    /// (`resume`): ALPES_TEST_PULSAR_CONTROL names the program that does it.
    pub(crate) fn control(what: &str) -> bool {
        let Some(program) = std::env::var_os("ALPES_TEST_PULSAR_CONTROL") else { return false };
        assert!(Command::new(program).arg(what).status().unwrap().success(), "{what}");
        true
    }

    pub(crate) fn client(&self) -> Pulsar<TokioExecutor> {
        self.runtime.block_on(Pulsar::builder(&self.options.service_url, TokioExecutor).build()).unwrap()
    }

    /// The next `count` messages of a topic from its beginning, in order; fails after 20 seconds without one.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<Raw> {
        let client = self.client();
        self.runtime.block_on(async {
            let options = ConsumerOptions::default().with_initial_position(InitialPosition::Earliest).durable(false);
            let mut consumer: Consumer<Vec<u8>, _> = client
                .consumer()
                .with_topic(topic)
                .with_subscription("test-reader")
                .with_subscription_type(SubType::Exclusive)
                .with_options(options)
                .build()
                .await
                .unwrap();
            let mut found = Vec::new();
            while found.len() < count {
                let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
                let next = next.unwrap_or_else(|_| panic!("{topic}: only {} of {count} messages", found.len()));
                found.push(raw(&next.unwrap().unwrap()));
            }
            consumer.close().await.unwrap();
            found
        })
    }

    /// Removes a namespace with all that is in it.
    pub(crate) fn remove(&self, namespace: &str) {
        let place = format!("{}/{namespace}", self.options.tenant);
        let topics =
            |path: &str| serde_json::from_str::<Vec<String>>(&self.admin("GET", path, "").1).unwrap_or_default();
        for topic in topics(&format!("persistent/{place}/partitioned")) {
            self.admin("DELETE", &format!("{}/partitions?force=true", topic.replacen("://", "/", 1)), "");
        }
        for topic in topics(&format!("persistent/{place}")) {
            self.admin("DELETE", &format!("{}?force=true", topic.replacen("://", "/", 1)), "");
        }
        self.admin("DELETE", &format!("namespaces/{place}"), "");
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = format!("{}/admin/v2/{path}", self.options.admin_url);
        let request = ureq::http::Request::builder().method(method).uri(url).header("Content-Type", "application/json");
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(30)))
                .build(),
        );
        let mut answer = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove(&self.options.namespace);
        }
    }
}

fn raw(message: &Message<Vec<u8>>) -> Raw {
    let MessageMetadata { properties, schema_version, .. } = message.metadata();
    Raw {
        key: message.key(),
        payload: message.payload.data.clone(),
        properties: properties.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
        schema_version: schema_version.clone(),
    }
}

/// An event of each type of the catalogue, from its golden sample, from position 1 on.
pub(crate) fn samples() -> Vec<EventRecord> {
    (1..).zip(catalogue()).map(|(position, event)| sample(position, &event)).collect()
}

fn sample(position: i64, event: &Descriptor) -> EventRecord {
    let payload = (event.sample)();
    EventRecord {
        position,
        id: event_id(position),
        aggregate: event.aggregate.to_owned(),
        subject: (event.subject)(&payload).unwrap(),
        event_type: event.event_type.to_owned(),
        payload,
        time: Timestamp::from_micros(1_769_860_800_123_456 + position),
        actor: "tester".to_owned(),
        causation_id: (position % 2 == 0).then(|| event_id(position - 1)),
        correlation_id: (position % 3 == 0).then(|| "order-7".to_owned()),
    }
}

/// `partners.suspended.v1` of one partner, with a reason to tell them apart.
pub(crate) fn suspended(position: i64, partner: u8, reason: &str) -> EventRecord {
    let subject = kernel::PartnerId::from_bytes([partner; 16]).to_string();
    EventRecord {
        position,
        id: event_id(position),
        aggregate: "partner".to_owned(),
        payload: format!("{{\"partner_id\":\"{subject}\",\"reason\":\"{reason}\"}}"),
        subject,
        event_type: "partners.suspended.v1".to_owned(),
        time: Timestamp::from_micros(1_769_860_800_000_000 + position),
        actor: "tester".to_owned(),
        causation_id: None,
        correlation_id: None,
    }
}

fn event_id(position: i64) -> EventId {
    EventId::from_bytes(i128::from(position).to_be_bytes())
}
