//! A load over several servers, as a proxy in front would spread it: each request goes to the next server, and again to
//! the others as long as one refuses the connection, breaks it off, or answers 429 or 503. Requests are planned at fixed
//! times; what cannot be sent because every connection still waits is not sent later.

use super::Traffic;
use super::connection::{Connection, Reply};
use super::histogram::Histogram;
use super::meter::microseconds;
use anyhow::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// How long a request rests after every server has refused it.
const REST: Duration = Duration::from_millis(50);
/// How long one server may take to answer: longer than a database may hold it up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request is repeated until it is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// An answer within this counts as one in time.
pub(crate) const IN_TIME: Duration = Duration::from_secs(1);

/// How much, and where to.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Requests under way at most.
    pub(crate) connections: u32,
    /// Requests per second.
    pub(crate) rate: u32,
    /// Ends the run.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Why a request was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Nobody listens.
    Unreachable,
    /// The connection broke, or nothing came in time.
    Broken,
    /// This status.
    Status(u16),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => f.write_str("refused connection"),
            Self::Broken => f.write_str("broken connection"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

/// What a run counts.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Last answers with 2xx, in microseconds from the planned time.
    pub(crate) latency: Histogram,
    pub(crate) repeats: BTreeMap<Reason, u64>,
    /// 429 and 503 without `Retry-After`.
    pub(crate) without_retry_after: u64,
    /// Requests without a last answer.
    pub(crate) given_up: u64,
    /// Requests that were not sent, because every connection still waited.
    pub(crate) not_sent: u64,
    /// Last answers with 2xx that came later than [`IN_TIME`].
    pub(crate) late: u64,
    /// When each answer with 2xx came, and from which server.
    pub(crate) successes: Vec<(Instant, usize)>,
}

impl Outcome {
    /// The time from `moment` until every one of `servers` has answered a request with 2xx.
    pub(crate) fn back_after(&self, moment: Instant, servers: usize) -> Option<Duration> {
        let first = |server| {
            let mut later = self.successes.iter().filter(|(at, by)| *by == server && *at >= moment);
            later.next().map(|(at, _)| *at - moment)
        };
        (0..servers).map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

struct Shared<T> {
    outcome: Outcome,
    traffic: T,
}

/// Runs until it is told to stop, or the traffic ends.
///
/// # Errors
/// When the runtime cannot be built.
pub(crate) fn run<T: Traffic + 'static>(plan: &Plan, traffic: T) -> Result<(Outcome, T)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Rc::new(RefCell::new(Shared { outcome: Outcome::default(), traffic }));
    let start = Instant::now();
    let set = LocalSet::new();
    for number in 0..plan.connections {
        let (shared, plan) = (Rc::clone(&shared), plan.clone());
        let distance = Duration::from_secs(1) / plan.rate;
        let first = start + distance * number;
        set.spawn_local(async move { work(&plan, first, distance * plan.connections, &shared).await });
    }
    runtime.block_on(set);
    let Shared { outcome, traffic } = Rc::into_inner(shared).expect("every task has ended").into_inner();
    Ok((outcome, traffic))
}

async fn work<T: Traffic>(plan: &Plan, first: Instant, distance: Duration, shared: &RefCell<Shared<T>>) {
    let mut lines: Vec<Option<Connection>> = plan.addresses.iter().map(|_| None).collect();
    let mut request = Vec::new();
    let (mut planned, mut server) = (first, 0);
    while !plan.stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if planned > now {
            // In small parts, so that a stop is soon seen.
            sleep((planned - now).min(REST)).await;
            continue;
        }
        let Some(tag) = shared.borrow_mut().traffic.next(&mut request) else { return };
        server = (server + 1) % lines.len();
        deliver(plan, &mut lines, server, planned, (&request, tag), shared).await;
        planned += distance;
        while planned <= Instant::now() {
            planned += distance;
            shared.borrow_mut().outcome.not_sent += 1;
        }
    }
}

/// Sends one request until somebody has answered it.
async fn deliver<T: Traffic>(
    plan: &Plan,
    lines: &mut [Option<Connection>],
    first: usize,
    planned: Instant,
    (request, tag): (&[u8], u64),
    shared: &RefCell<Shared<T>>,
) {
    let count = lines.len();
    for attempt in 0.. {
        if attempt > 0 && attempt % count == 0 {
            sleep(REST).await;
        }
        if planned.elapsed() > GIVEN_UP_AFTER {
            break;
        }
        let server = (first + attempt) % count;
        let reason = match exchange(&mut lines[server], plan.addresses[server], request).await {
            Ok(reply) if matches!(reply.status, 429 | 503) => {
                shared.borrow_mut().outcome.without_retry_after += u64::from(!reply.retry_after);
                Reason::Status(reply.status)
            }
            Ok(reply) => {
                let Shared { outcome, traffic } = &mut *shared.borrow_mut();
                if (200..300).contains(&reply.status) {
                    outcome.latency.record(microseconds(planned.elapsed()));
                    outcome.late += u64::from(planned.elapsed() > IN_TIME);
                    outcome.successes.push((Instant::now(), server));
                }
                traffic.done(tag, Some(&reply));
                return;
            }
            Err(reason) => {
                lines[server] = None;
                reason
            }
        };
        *shared.borrow_mut().outcome.repeats.entry(reason).or_default() += 1;
    }
    let Shared { outcome, traffic } = &mut *shared.borrow_mut();
    outcome.given_up += 1;
    traffic.done(tag, None);
}

async fn exchange<'a>(
    line: &'a mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
) -> Result<Reply<'a>, Reason> {
    let open = match line {
        Some(open) => open,
        empty => empty.insert(Connection::open(address).await.map_err(|_| Reason::Unreachable)?),
    };
    match timeout(PATIENCE, open.exchange(request)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) | Err(_) => Err(Reason::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::stub::Stub;

    struct Ten {
        left: u32,
        statuses: Vec<Option<u16>>,
    }

    impl Traffic for Ten {
        fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
            self.left = self.left.checked_sub(1)?;
            buffer.clear();
            buffer.extend(crate::load::connection::render("POST", "/", "", "stub", b"{}"));
            Some(0)
        }

        fn done(&mut self, _tag: u64, reply: Option<&Reply<'_>>) {
            self.statuses.push(reply.map(|reply| reply.status));
        }
    }

    #[test]
    fn what_one_server_cannot_take_the_other_gets() {
        let stub = Stub::start().unwrap();
        let closed = std::net::TcpListener::bind(crate::load::loopback(0)).unwrap().local_addr().unwrap();
        let plan = Plan { addresses: vec![closed, stub.address], connections: 2, rate: 1_000, stop: Arc::default() };
        let (outcome, traffic) = run(&plan, Ten { left: 10, statuses: Vec::new() }).unwrap();
        assert_eq!(traffic.statuses, [Some(204); 10]);
        assert_eq!((outcome.latency.count(), outcome.given_up), (10, 0));
        assert!(outcome.repeats[&Reason::Unreachable] > 0 && outcome.repeats.len() == 1, "{:?}", outcome.repeats);
        assert!(outcome.successes.iter().all(|(_, server)| *server == 1));
        assert_eq!(outcome.back_after(Instant::now(), 2), None);
    }
}
