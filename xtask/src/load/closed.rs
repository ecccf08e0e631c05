//! Closed loop: each connection sends its next request when the last one is answered. For saturation only; its
//! latencies say nothing about a server that is not saturated.

use super::connection::Connection;
use super::meter::Meter;
use super::{Run, Traffic};
use anyhow::Result;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// How much, and for how long.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// Not counted.
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// Runs until the time is over, the traffic ends or every connection is broken.
///
/// # Errors
/// When the runtime cannot be built; broken connections are counted, not raised.
pub(crate) fn run<T: Traffic + 'static>(plan: &Plan, traffic: T) -> Result<Run<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let shared = Rc::new(RefCell::new(Run { meter: Meter::default(), traffic }));
    let start = Instant::now() + plan.warm_up;
    let until = start + plan.time;
    let set = LocalSet::new();
    for _ in 0..plan.connections {
        let shared = Rc::clone(&shared);
        let address = plan.address;
        set.spawn_local(async move {
            if work(address, start, until, &shared).await.is_err() {
                shared.borrow_mut().meter.broken += 1;
            }
        });
    }
    runtime.block_on(set);
    let run = Rc::into_inner(shared).expect("every task has ended").into_inner();
    Ok(Run { meter: Meter { elapsed: start.elapsed(), ..run.meter }, traffic: run.traffic })
}

async fn work<T: Traffic>(
    address: SocketAddr,
    start: Instant,
    until: Instant,
    shared: &RefCell<Run<T>>,
) -> std::io::Result<()> {
    let mut connection = Connection::open(address).await?;
    let mut request = Vec::new();
    loop {
        let now = Instant::now();
        if now >= until {
            return Ok(());
        }
        let Some(tag) = shared.borrow_mut().traffic.next(&mut request) else { return Ok(()) };
        match connection.exchange(&request).await {
            Ok(reply) => {
                let run = &mut *shared.borrow_mut();
                run.traffic.done(tag, Some(&reply));
                if now >= start {
                    run.meter.reply(now, reply.status, reply.retry_after);
                }
            }
            Err(error) => {
                shared.borrow_mut().traffic.done(tag, None);
                return Err(error);
            }
        }
    }
}
