//! A blocking client for everything that is not load: setting up, asking for statistics, comparing.

use super::connection::{parse_head, render};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Whom to ask, and with which key.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) problem: bool,
    pub(crate) retry_after: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Control {
    /// One request on a connection of its own; `headers` are whole lines.
    ///
    /// # Errors
    /// When the server cannot be reached, breaks off or takes longer than 30 s.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let headers = format!("connection: close\r\n{headers}");
        stream.write_all(&render(method, path, &headers, &self.key, body))?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        let head = parse_head(&received)?.with_context(|| format!("{method} {path}: the reply broke off"))?;
        let body = received.get(head.length..head.length + head.body_length);
        let body = body.with_context(|| format!("{method} {path}: the body broke off"))?.to_vec();
        Ok(Answer { status: head.status, problem: head.problem, retry_after: head.retry_after, body })
    }

    /// GET that must answer 200 with JSON.
    ///
    /// # Errors
    /// Any other answer.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send("GET", path, "", b"")?;
        if answer.status != 200 {
            bail!("GET {path} answered {}: {}", answer.status, answer.text());
        }
        answer.json()
    }

    /// POST that must answer 200 or 201 with JSON.
    ///
    /// # Errors
    /// Any other answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send("POST", path, "", body.to_string().as_bytes())?;
        if !matches!(answer.status, 200 | 201) {
            bail!("POST {path} answered {}: {}", answer.status, answer.text());
        }
        answer.json()
    }

    /// The sum of a metric over its labels; `None` when the server has no such metric.
    ///
    /// # Errors
    /// When `/metrics` does not answer 200.
    pub(crate) fn metric(&self, name: &str) -> Result<Option<u64>> {
        let answer = self.send("GET", "/metrics", "", b"")?;
        if answer.status != 200 {
            bail!("GET /metrics answered {}", answer.status);
        }
        Ok(sum_of(&answer.text(), name))
    }

    /// Events that exist, and the largest lag of any consumer.
    ///
    /// # Errors
    /// When the statistics are not as documented.
    pub(crate) fn backlog(&self) -> Result<Backlog> {
        let statistics = self.get("/v1/events/statistics")?;
        let head = statistics["head"].as_u64().context("statistics without a head")?;
        let consumers = statistics["consumers"].as_array().context("statistics without consumers")?;
        let lag = |consumer: &Value| {
            let name = consumer["name"].as_str()?.to_owned();
            Some((name, consumer["lag"].as_u64()?))
        };
        let lags = consumers.iter().map(lag).collect::<Option<Vec<_>>>().context("a consumer without a lag")?;
        Ok(Backlog { head, lags })
    }

    /// Waits until no consumer has anything left, at most `limit`; returns the last position.
    ///
    /// # Errors
    /// When the limit passes or the statistics do not answer.
    pub(crate) fn drain(&self, limit: Duration) -> Result<u64> {
        let start = Instant::now();
        loop {
            let backlog = self.backlog()?;
            if backlog.largest() == 0 {
                return Ok(backlog.head);
            }
            ensure!(start.elapsed() < limit, "the reactions are not done after {limit:?}: {:?}", backlog.lags);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How far the reactions are.
#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    /// Position of the last event.
    pub(crate) head: u64,
    /// Consumers and their lag in events.
    pub(crate) lags: Vec<(String, u64)>,
}

impl Backlog {
    /// The largest lag.
    pub(crate) fn largest(&self) -> u64 {
        self.lags.iter().map(|(_, lag)| *lag).max().unwrap_or(0)
    }
}

/// Adds up the samples of `name` in Prometheus text; `None` without any.
fn sum_of(text: &str, name: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with([' ', '{']));
    let whole = |sample: &str| sample.rsplit(' ').next()?.split('.').next()?.parse::<u64>().ok();
    samples.filter_map(whole).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::sum_of;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_longer_names() {
        let text =
            "# TYPE a_total counter\na_total{lane=\"intake\"} 3\na_total{lane=\"reaction\"} 4.0\na_total_more 9\nb 1\n";
        assert_eq!(sum_of(text, "a_total"), Some(7));
        assert_eq!(sum_of(text, "b"), Some(1));
        assert_eq!(sum_of(text, "c"), None);
    }
}
