//! Open loop: requests are planned at fixed or Poisson times, whatever the server does, and latency counts from the
//! *planned* time, so that a stall shows in every request that was planned in it.

use super::connection::Connection;
use super::meter::{Meter, microseconds};
use super::random::Random;
use super::{Run, Traffic};
use anyhow::Result;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// When requests are planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// At equal distances.
    Even,
    /// At exponential distances from a fixed seed.
    Poisson,
}

/// How much, and for how long.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Requests that wait for a reply at most; further ones wait for a free connection, and that counts.
    pub(crate) connections: usize,
    /// Requests per second.
    pub(crate) rate: u64,
    pub(crate) arrivals: Arrivals,
    /// Not counted.
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// Planned times that nobody has taken yet; `None` ends a connection.
#[derive(Clone)]
struct Queue {
    planned: Arc<Mutex<VecDeque<Option<Instant>>>>,
    waiting: Arc<Semaphore>,
}

impl Queue {
    fn push(&self, times: impl IntoIterator<Item = Option<Instant>>) {
        let mut planned = self.planned.lock().expect("no holder panics");
        let before = planned.len();
        planned.extend(times);
        let added = planned.len() - before;
        drop(planned);
        self.waiting.add_permits(added);
    }

    async fn pop(&self) -> Option<Instant> {
        self.waiting.acquire().await.expect("never closed").forget();
        self.planned.lock().expect("no holder panics").pop_front().flatten()
    }
}

/// Runs the whole plan and waits for the last reply.
///
/// # Errors
/// When the runtime cannot be built; broken connections are counted, not raised.
pub(crate) fn run<T: Traffic + 'static>(plan: &Plan, traffic: T) -> Result<Run<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let queue = Queue { planned: Arc::default(), waiting: Arc::new(Semaphore::new(0)) };
    let shared = Rc::new(RefCell::new(Run { meter: Meter::default(), traffic }));
    let first = Instant::now() + Duration::from_millis(20);
    let start = first + plan.warm_up;
    let set = LocalSet::new();
    for _ in 0..plan.connections {
        let (shared, queue, address) = (Rc::clone(&shared), queue.clone(), plan.address);
        set.spawn_local(async move {
            if work(address, start, &queue, &shared).await.is_err() {
                shared.borrow_mut().meter.broken += 1;
            }
        });
    }
    let clock = Clock { rate: plan.rate, arrivals: plan.arrivals, first, until: start + plan.time };
    let connections = plan.connections;
    let ticker = std::thread::spawn(move || {
        clock.tick(&queue);
        queue.push((0..connections).map(|_| None));
    });
    runtime.block_on(set);
    ticker.join().map_err(|_| anyhow::anyhow!("the clock of the open loop panicked"))?;
    let run = Rc::into_inner(shared).expect("every task has ended").into_inner();
    Ok(Run { meter: Meter { elapsed: start.elapsed(), ..run.meter }, traffic: run.traffic })
}

/// A thread of its own with nanosleep: the runtime's timer is no finer than a millisecond.
struct Clock {
    rate: u64,
    arrivals: Arrivals,
    first: Instant,
    until: Instant,
}

impl Clock {
    fn tick(&self, queue: &Queue) {
        let mut random = Random::new(1);
        let mut planned = self.first;
        while planned < self.until {
            let now = Instant::now();
            if planned > now {
                std::thread::sleep(planned - now);
                continue;
            }
            let mut due = Vec::new();
            while planned <= now && planned < self.until {
                due.push(Some(planned));
                planned += self.distance(&mut random);
            }
            queue.push(due);
        }
    }

    fn distance(&self, random: &mut Random) -> Duration {
        match self.arrivals {
            Arrivals::Even => Duration::from_nanos(1_000_000_000 / self.rate),
            Arrivals::Poisson => Duration::from_secs_f64(random.waiting_time(self.rate)),
        }
    }
}

async fn work<T: Traffic>(
    address: SocketAddr,
    start: Instant,
    queue: &Queue,
    shared: &RefCell<Run<T>>,
) -> std::io::Result<()> {
    let mut connection = Connection::open(address).await?;
    let mut request = Vec::new();
    let mut free_since = Instant::now();
    while let Some(planned) = queue.pop().await {
        let Some(tag) = shared.borrow_mut().traffic.next(&mut request) else { return Ok(()) };
        if planned >= start && free_since <= planned {
            shared.borrow_mut().meter.lag.record(microseconds(planned.elapsed()));
        }
        match connection.exchange(&request).await {
            Ok(reply) => {
                let run = &mut *shared.borrow_mut();
                run.traffic.done(tag, Some(&reply));
                if planned >= start {
                    run.meter.reply(planned, reply.status, reply.retry_after);
                }
            }
            Err(error) => {
                shared.borrow_mut().traffic.done(tag, None);
                return Err(error);
            }
        }
        free_since = Instant::now();
    }
    Ok(())
}
