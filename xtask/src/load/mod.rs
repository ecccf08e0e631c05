//! The HTTP load generator: what `bench` and `chaos` drive a running server with.
//! It shares two cores with the system that it measures, so requests are rendered once and patched, and of a reply
//! only the status, the length and one header are read. It knows HTTP and time, and nothing of the domain but the
//! few requests in `scene` and `conversions`.
#![expect(clippy::disallowed_methods, reason = "a load generator measures real time on real threads")]

pub(crate) mod balanced;
pub(crate) mod closed;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod conversions;
pub(crate) mod histogram;
pub(crate) mod meter;
pub(crate) mod open;
pub(crate) mod random;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod stub;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// What a run sends, and who is told how it went.
pub(crate) trait Traffic {
    /// Puts the next request's bytes in `buffer` (its old content is the connection's previous request) and returns a
    /// tag for it; `None` ends this connection's work.
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64>;
    /// The reply to the request `tag`; `None` when the connection broke and the outcome is unknown.
    fn done(&mut self, tag: u64, reply: Option<&connection::Reply<'_>>);
}

/// `cargo x load`: the generator against a stub that answers 204, which bounds what it adds to any measurement.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Requests per second of the open loop.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds per loop.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Runs the check and fails when the generator itself is too slow to be trusted.
pub(crate) fn run(args: &Args) -> Result<()> {
    let check = check(args.rate, args.connections, Duration::from_secs(args.seconds))?;
    println!("closed loop, {} connections: {}/s, {}", args.connections, check.closed.rate(), check.closed.summary());
    println!("open loop at {}/s: {}", args.rate, check.open.summary());
    ensure!(check.is_sound(), "the generator is too slow on this machine now: its figures would be its own");
    Ok(())
}

/// The generator measured against the stub.
pub(crate) struct Check {
    pub(crate) closed: meter::Meter,
    pub(crate) open: meter::Meter,
}

impl Check {
    /// Whether the 99th percentiles of both latency and lag in the open loop stay below one millisecond.
    pub(crate) fn is_sound(&self) -> bool {
        self.open.latency.quantile(990) < 1_000 && self.open.lag.quantile(990) < 1_000 && self.open.broken == 0
    }
}

/// Measures the generator against the stub: closed loop, then Poisson arrivals at `rate` per second.
pub(crate) fn check(rate: u64, connections: usize, time: Duration) -> Result<Check> {
    let stub = stub::Stub::start()?;
    let request = connection::render("POST", "/", "", "stub", b"{}");
    let warm_up = Duration::from_millis(500);
    let closed = closed::run(
        &closed::Plan { address: stub.address, connections, warm_up, time },
        Same { request: request.clone() },
    )?;
    let plan =
        open::Plan { address: stub.address, connections, rate, arrivals: open::Arrivals::Poisson, warm_up, time };
    let open = open::run(&plan, Same { request })?;
    Ok(Check { closed: closed.meter, open: open.meter })
}

/// One request, again and again.
struct Same {
    request: Vec<u8>,
}

impl Traffic for Same {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        if buffer.is_empty() {
            buffer.extend_from_slice(&self.request);
        }
        Some(0)
    }

    fn done(&mut self, _tag: u64, _reply: Option<&connection::Reply<'_>>) {}
}

/// What a run leaves behind: its figures, and the traffic with what it noted.
pub(crate) struct Run<T> {
    pub(crate) meter: meter::Meter,
    pub(crate) traffic: T,
}

/// A loopback address for `port`.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
