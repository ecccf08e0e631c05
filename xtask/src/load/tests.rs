//! The generator against stubs that behave well, stall, refuse and break off.

use super::connection::render;
use super::stub::{NO_CONTENT, Stub};
use super::*;
use std::time::Instant;

fn same() -> Same {
    Same { request: render("POST", "/", "", "key", b"{\"a\":1}") }
}

fn open_plan(address: SocketAddr, arrivals: open::Arrivals, connections: usize) -> open::Plan {
    let (warm_up, time) = (Duration::ZERO, Duration::from_millis(400));
    open::Plan { address, connections, rate: 1_000, arrivals, warm_up, time }
}

#[test]
fn a_closed_loop_sends_as_fast_as_it_is_answered() {
    let stub = Stub::start().unwrap();
    let (warm_up, time) = (Duration::from_millis(50), Duration::from_millis(200));
    let run = closed::run(&closed::Plan { address: stub.address, connections: 8, warm_up, time }, same()).unwrap();
    assert_eq!(run.meter.failures(), 0);
    assert!(run.meter.accepted() > 200, "{}", run.meter.summary());
    assert!(run.meter.elapsed >= time);
}

#[test]
fn an_open_loop_sends_what_was_planned_even_or_poisson() {
    let stub = Stub::start().unwrap();
    let even = open::run(&open_plan(stub.address, open::Arrivals::Even, 16), same()).unwrap();
    assert_eq!(even.meter.accepted(), 400);
    let poisson = open::run(&open_plan(stub.address, open::Arrivals::Poisson, 16), same()).unwrap();
    assert!((320..480).contains(&poisson.meter.accepted()), "{}", poisson.meter.summary());
}

#[test]
fn a_stall_counts_for_every_request_that_was_planned_in_it() {
    let mut stall_at = Some(Instant::now() + Duration::from_millis(150));
    let stub = Stub::answering(move |_| {
        if stall_at.is_some_and(|at| Instant::now() >= at) {
            stall_at = None;
            std::thread::sleep(Duration::from_millis(200));
        }
        NO_CONTENT.to_vec()
    });
    let run = open::run(&open_plan(stub.unwrap().address, open::Arrivals::Even, 4), same()).unwrap();
    assert_eq!(run.meter.accepted(), 400);
    // Half of the plan lies in the stall: its median is about 100 ms, so a quarter of all waited that long. Counted
    // from the send, only the four requests under way would have waited.
    assert!(run.meter.latency.quantile(800) > 80_000, "{}", run.meter.summary());
}

#[test]
fn refusals_and_broken_connections_are_told_apart() {
    let mut count = 0;
    let stub = Stub::answering(move |_| {
        count += 1;
        match count {
            1 => b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n".to_vec(),
            2 => b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n".to_vec(),
            3 => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            _ => Vec::new(),
        }
    })
    .unwrap();
    let plan =
        closed::Plan { address: stub.address, connections: 1, warm_up: Duration::ZERO, time: Duration::from_secs(5) };
    let meter = closed::run(&plan, same()).unwrap().meter;
    assert_eq!(meter.statuses, [(429, 2), (500, 1)].into());
    assert_eq!((meter.without_retry_after, meter.broken, meter.failures()), (1, 1, 2));
}
