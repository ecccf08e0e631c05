//! What a run counts.

use super::histogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The figures of one run; only what was planned after the warm-up counts.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    /// Replies with 2xx, in microseconds from the planned send time (open loop) or the send time (closed loop).
    pub(crate) latency: Histogram,
    /// The generator's own delay between a planned time and the send, while a connection was free (open loop).
    pub(crate) lag: Histogram,
    /// Replies by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// 429 and 503 replies without a `Retry-After`.
    pub(crate) without_retry_after: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
    /// From the end of the warm-up to the last reply.
    pub(crate) elapsed: Duration,
}

impl Meter {
    /// Counts one reply to what was planned at `planned`.
    pub(crate) fn reply(&mut self, planned: Instant, status: u16, retry_after: bool) {
        *self.statuses.entry(status).or_default() += 1;
        if (200..300).contains(&status) {
            self.latency.record(microseconds(planned.elapsed()));
        }
        if matches!(status, 429 | 503) && !retry_after {
            self.without_retry_after += 1;
        }
    }

    /// Replies with 2xx.
    pub(crate) fn accepted(&self) -> u64 {
        self.latency.count()
    }

    /// Replies with 2xx per second.
    pub(crate) fn rate(&self) -> u64 {
        per_second(self.accepted(), self.elapsed)
    }

    /// Replies that are neither 2xx nor 429, and broken connections: a measurement with any is void.
    pub(crate) fn failures(&self) -> u64 {
        let refused = |status: &u16| !(200..300).contains(status) && *status != 429;
        self.broken + self.statuses.iter().filter(|(status, _)| refused(status)).map(|(_, count)| count).sum::<u64>()
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let quantile = |permille| milliseconds(self.latency.quantile(permille));
        let mut line = format!(
            "{} ok, p50 {} p95 {} p99 {} max {} ms",
            self.accepted(),
            quantile(500),
            quantile(950),
            quantile(990),
            milliseconds(self.latency.maximum())
        );
        if self.lag.count() > 0 {
            line += &format!(", own lag p99 {} ms", milliseconds(self.lag.quantile(990)));
        }
        if self.failures() > 0 {
            line += &format!(", FAILED {:?} and {} broken connections", self.statuses, self.broken);
        }
        line
    }

    /// The raw data to keep.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "accepted": self.accepted(),
            "elapsed_us": microseconds(self.elapsed),
            "statuses": self.statuses,
            "broken": self.broken,
            "latency_us": self.latency.buckets(),
            "lag_us": self.lag.buckets(),
        })
    }
}

/// Whole microseconds of a duration.
pub(crate) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds with two decimals.
pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1_000, microseconds % 1_000 / 10)
}

/// `count` over `elapsed`, per second, rounded down.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> u64 {
    count.saturating_mul(1_000_000) / microseconds(elapsed).max(1)
}
