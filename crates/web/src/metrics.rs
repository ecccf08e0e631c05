//! What is counted: requests by route template, the intake, the database, the consumers. Rendered as Prometheus text at
//! `/metrics`; it names no partner, no key and no id, and therefore needs no key.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use kernel::{Fault, Result};
use platform::{Db, dead_letters, parking};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::outside::Outside;
use crate::state::State;

/// The present moment of the machine's own clock, for measuring how long something takes and nothing else.
#[expect(clippy::disallowed_methods, reason = "durations of requests are measured, never decided on")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: &'static str,
}

/// What requests leave behind.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Request, Counter>,
    durations: Family<Request, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { requests: Family::default(), durations: Family::new_with_constructor(seconds) }
    }

    /// Counts one request.
    pub(crate) fn count(&self, method: &Method, route: Option<&str>, status: StatusCode, took: Duration) {
        let labels =
            Request { method: name(method), route: route.unwrap_or("unmatched").to_owned(), status: class(status) };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

fn seconds() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

/// Facts per transaction.
pub(crate) fn batch_sizes() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_000.0])
}

/// Methods that a client invents do not become labels.
const fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

const fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The numbers of one moment.
#[derive(Debug)]
struct Snapshot {
    counters: Vec<(&'static str, &'static str, u64)>,
    gauges: Vec<(&'static str, &'static str, i64)>,
    lags: Vec<(&'static str, i64)>,
    outside: Outside,
}

impl prometheus_client::collector::Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::result::Result<(), std::fmt::Error> {
        for &(name, help, value) in &self.counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for &(name, help, value) in &self.gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (name, help) = ("alpes_consumer_lag_events", "Events that the consumer has not handled yet");
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for &(consumer, lag) in &self.lags {
            ConstGauge::new(lag).encode(family.encode_family(&[("consumer", consumer)])?)?;
        }
        self.encode_outside(&mut encoder)
    }
}

impl Snapshot {
    fn encode_outside(&self, encoder: &mut DescriptorEncoder<'_>) -> std::result::Result<(), std::fmt::Error> {
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "What the database keeps of its log of changes for this reader";
        let mut family = encoder.encode_descriptor("alpes_slot_behind_bytes", help, None, kind)?;
        for slot in &self.outside.slots {
            let Some(bytes) = slot.behind_bytes else { continue };
            ConstGauge::new(bytes).encode(family.encode_family(&[("slot", slot.name.as_str())])?)?;
        }
        let help = "What the subscription has not acknowledged on the broker";
        let mut family = encoder.encode_descriptor("alpes_topic_backlog_messages", help, None, kind)?;
        for backlog in &self.outside.backlogs {
            let labels = [("topic", backlog.topic.as_str()), ("subscription", backlog.subscription.as_str())];
            ConstGauge::new(backlog.messages).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The page. Blocks on the database.
pub(crate) fn page(state: &State) -> Result<String> {
    let mut registry = Registry::default();
    let metrics = &state.metrics;
    registry.register("alpes_http_requests", "Requests answered", metrics.requests.clone());
    registry.register(
        "alpes_http_request_duration_seconds",
        "Time from the request's head to the answer",
        metrics.durations.clone(),
    );
    registry.register("alpes_intake_batch_facts", "Facts per transaction of the intake", state.intake.batch_sizes());
    registry.register_collector(Box::new(snapshot(state)?));
    let mut page = String::with_capacity(16_384);
    encode(&mut page, &registry).map_err(Fault::internal)?;
    Ok(page)
}

fn snapshot(state: &State) -> Result<Snapshot> {
    let db: &Db = &state.db;
    let stats = db.stats();
    let head = db.head();
    let ((parked, resumed), dead) = db.read(|reader| Ok((parking::count(reader)?, dead_letters::count(reader)?)))?;
    let queued = i64::try_from(state.intake.queued_facts()).unwrap_or(i64::MAX);
    let size = i64::try_from(db.size_bytes()).unwrap_or(i64::MAX);
    let outside = state.outside();
    let alarms = i64::try_from(outside.alarms().len()).unwrap_or(i64::MAX);
    let unseen = i64::from(!outside.unseen.is_empty());
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    Ok(Snapshot {
        counters: vec![
            ("alpes_database_statements", "Statements sent to the database", count(&stats.statements)),
            ("alpes_database_commits", "Durable commits; each is one sync", count(&stats.commits)),
            ("alpes_database_rollbacks", "Transactions rolled back", count(&stats.rollbacks)),
            ("alpes_resumed_events", "Parked events that went on", u64::try_from(resumed).unwrap_or(0)),
        ],
        gauges: vec![
            ("alpes_database_size_bytes", "Size of the database and its write-ahead log", size),
            ("alpes_database_writes_stopped", "1 after a failed sync, until a restart", i64::from(db.is_stopped())),
            ("alpes_log_head_position", "Position of the last event", head),
            ("alpes_intake_queue_facts", "Facts that wait for the intake's next transaction", queued),
            ("alpes_parked_events", "Events that wait for something", parked),
            ("alpes_dead_letters", "Events that a consumer could not handle", dead),
            ("alpes_alarms", "Slots and backlogs that somebody should see to", alarms),
            ("alpes_outside_unseen", "1 when the broker or the log of changes could not be looked at", unseen),
        ],
        lags: state.progress().positions.iter().map(|&(name, position)| (name, (head - position).max(0))).collect(),
        outside,
    })
}
