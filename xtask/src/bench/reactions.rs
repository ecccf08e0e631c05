//! How fast and how soon an event becomes a commission.

use super::intake::{milliseconds, record};
use super::{Context, Readings, all_accepted};
use crate::load::connection::{Connection, Reply, render};
use crate::load::control::{Backlog, Control};
use crate::load::conversions::Conversions;
use crate::load::histogram::Histogram;
use crate::load::meter::microseconds;
use crate::load::server::Start;
use crate::load::{Traffic, open};
use crate::services;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Consumers that turn a conversion into a commission; the others read what they did.
const MAIN: [&str; 2] = ["conversions", "commissions"];
/// One in so many conversions is followed until its commission is readable.
const SAMPLED: u64 = 4;

/// Conversions recorded while the reactions are off, then the time until the reactions have caught up, from the
/// start of the process.
pub(super) fn throughput(context: &Context) -> Result<Readings> {
    caught_up(context, &Load { count: if context.quick { 20_000 } else { 100_000 }, hot: false, others: 0 })
}

/// What the reactions are given.
pub(super) struct Load {
    pub(super) count: u64,
    /// Whether every other conversion is one partner's.
    pub(super) hot: bool,
    /// Further processes that react.
    pub(super) others: usize,
}

/// The time until the reactions have caught up with a load.
pub(super) fn caught_up(context: &Context, load: &Load) -> Result<Readings> {
    let count = load.count;
    let (alpes, running, scene) = context.scene("reactions", &Start::with(&["--roles", "api"]))?;
    let (recorded, _) = record(&scene, "reactions", count, load.hot)?;
    let key = running.control.key.clone();
    running.stop()?;
    let start = Instant::now();
    let running = alpes.serve(&Start::default(), &key)?;
    let helper = || alpes.spawn(&Start::with(&["--roles", "reactors,timers"]), &key);
    let others = (0..load.others).map(|_| helper()).collect::<Result<Vec<_>>>()?;
    let mut main_done = None;
    let mut course = Vec::new();
    let all_done = loop {
        let backlog = running.control.backlog()?;
        let elapsed = start.elapsed();
        course.push(json!({"us": microseconds(elapsed), "head": backlog.head, "lags": backlog.lags}));
        if main_done.is_none() && main_lag(&backlog)? == 0 {
            main_done = Some(elapsed);
        }
        if backlog.largest() == 0 {
            break elapsed;
        }
        ensure!(elapsed < Duration::from_secs(600), "the reactions are not done: {:?}", backlog.lags);
        std::thread::sleep(Duration::from_millis(50));
    };
    running.stop()?;
    others.into_iter().try_for_each(crate::load::server::Running::stop)?;
    alpes.verify().context("after the reactions")?;
    let bytes = match &alpes.database {
        Some(url) if url.starts_with("postgres") => {
            services::postgres_says(url, "SELECT pg_database_size(current_database())")?.trim().parse()?
        }
        _ => alpes.size()?,
    };
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    Ok(Readings {
        values: vec![("reactions", rate(main_done.unwrap_or(all_done))), ("reactions-all", rate(all_done))],
        raw: json!({
            "conversions": count, "bytes": bytes, "recorded_per_second": recorded, "course": course,
        }),
    })
}

/// The lag of the consumers that the figure is about. They follow their own events too, so lag 0 of both at one
/// moment means that nothing is left between them.
fn main_lag(backlog: &Backlog) -> Result<u64> {
    let main = |name: &str| MAIN.iter().any(|main| name.starts_with(main));
    let lags: Vec<u64> = backlog.lags.iter().filter(|(name, _)| main(name)).map(|(_, lag)| *lag).collect();
    lags.iter().copied().max().with_context(|| format!("no consumer is named {MAIN:?}: {:?}", backlog.lags))
}

/// From the 2xx of a conversion until `GET` shows its commission, at 1,000 conversions per second.
pub(super) fn readable(context: &Context) -> Result<Readings> {
    readable_at(context, 1_000)
}

/// The same at `rate` conversions per second.
pub(super) fn readable_at(context: &Context, rate: u64) -> Result<Readings> {
    let (_, running, scene) = context.scene("readable", &Start::default())?;
    let (send, followed) = mpsc::channel();
    let control = running.control.clone();
    let warm_up = context.warm_up();
    let from = Instant::now() + warm_up;
    let follower = std::thread::spawn(move || follow(&control, followed, from));
    let plan = open::Plan {
        address: running.control.address,
        connections: 64,
        rate,
        arrivals: open::Arrivals::Poisson,
        warm_up,
        time: context.seconds(45, 4),
    };
    let conversions = Conversions::new(&scene, "readable", 1, 0, 1 << 39);
    let run = open::run(&plan, Sampled { conversions, send })?;
    all_accepted(&run.meter)?;
    drop(run.traffic);
    let delays = follower.join().map_err(|_| anyhow::anyhow!("following panicked"))??;
    running.stop()?;
    Ok(Readings {
        values: vec![
            ("readable-p50", milliseconds(delays.quantile(500))),
            ("readable-p99", milliseconds(delays.quantile(990))),
        ],
        raw: json!({"samples": delays.count(), "delay_us": delays.buckets(), "run": run.meter.to_json()}),
    })
}

/// Tells the follower about one in `SAMPLED` conversions.
struct Sampled {
    conversions: Conversions,
    send: mpsc::Sender<(String, Instant)>,
}

impl Traffic for Sampled {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        self.conversions.next(buffer)
    }

    fn done(&mut self, tag: u64, reply: Option<&Reply<'_>>) {
        self.conversions.done(tag, reply);
        let body = reply.filter(|reply| tag.is_multiple_of(SAMPLED) && reply.status == 201).map(|reply| reply.body);
        let value: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
        if let Some(id) = value.as_ref().and_then(|value| value["id"].as_str()) {
            // The follower ends only on an error, which its thread returns.
            self.send.send((id.to_owned(), Instant::now())).ok();
        }
    }
}

/// Polls each conversion, all of them in turn over one connection without a pause, so that a poll comes as soon as
/// the last one is answered; returns the delays of those acknowledged after `from`.
fn follow(control: &Control, followed: mpsc::Receiver<(String, Instant)>, from: Instant) -> Result<Histogram> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(control.address).await?;
        let mut delays = Histogram::default();
        let mut waiting: Vec<(Vec<u8>, Instant)> = Vec::new();
        loop {
            let arrived: Vec<_> = if waiting.is_empty() {
                let Ok(first) = followed.recv() else { return Ok(delays) };
                std::iter::once(first).chain(followed.try_iter()).collect()
            } else {
                followed.try_iter().collect()
            };
            let request = |id: &str| render("GET", &format!("/v1/conversions/{id}"), "", &control.key, b"");
            waiting.extend(arrived.into_iter().map(|(id, since)| (request(&id), since)));
            let mut left = Vec::new();
            for (request, since) in waiting.drain(..) {
                ensure!(since.elapsed() < Duration::from_secs(10), "a conversion has no commission after 10 s");
                if !has_commission(&mut connection, &request).await? {
                    left.push((request, since));
                } else if since >= from {
                    delays.record(microseconds(since.elapsed()));
                }
            }
            waiting = left;
        }
    })
}

async fn has_commission(connection: &mut Connection, request: &[u8]) -> Result<bool> {
    let reply = connection.exchange(request).await?;
    ensure!(reply.status == 200, "GET of a conversion answered {}", reply.status);
    let conversion: Value = serde_json::from_slice(reply.body)?;
    Ok(conversion["commission"].is_object())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::stub::Stub;

    #[test]
    fn a_conversion_is_followed_until_its_commission_is_there() {
        let start = Instant::now();
        let stub = Stub::answering(move |_| {
            let body = if start.elapsed() < Duration::from_millis(60) {
                r#"{"commission":null}"#
            } else {
                r#"{"commission":{"id":"com_1"}}"#
            };
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
        .unwrap();
        let (send, followed) = mpsc::channel();
        send.send(("cnv_1".to_owned(), start)).unwrap();
        send.send(("cnv_2".to_owned(), start)).unwrap();
        drop(send);
        let control = Control { address: stub.address, key: "key".to_owned() };
        let delays = follow(&control, followed, start).unwrap();
        assert_eq!(delays.count(), 2);
        assert!(delays.quantile(500) >= 60_000 && delays.maximum() < 1_000_000);
    }

    #[test]
    fn only_the_consumers_of_the_main_job_count() {
        let lags = [("conversions.attribution", 3), ("commissions", 5), ("reports", 9)];
        let lags = lags.map(|(name, lag)| (name.to_owned(), lag)).to_vec();
        assert_eq!(main_lag(&Backlog { head: 9, lags }).unwrap(), 5);
        assert!(main_lag(&Backlog { head: 9, lags: vec![("seal".to_owned(), 0)] }).is_err());
    }
}
