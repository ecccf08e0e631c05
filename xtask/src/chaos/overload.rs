//! More than can be served: what can be served still is, and the rest is told to come back.

use crate::load::conversions::Conversions;
use crate::load::meter::Meter;
use crate::load::scene::Scene;
use crate::load::server::{Alpes, Start};
use crate::load::{closed, open};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(8);
/// Share of the capacity that must still be served, in percent.
const SERVED_PERCENT: u64 = 90;
/// More requests wait at a time than the queue holds, or nothing would ever be refused.
const CONNECTIONS: usize = 4_096;
/// The queue is made smaller than by default, so that a few thousand connections fill it.
const ARGUMENTS: [&str; 2] = ["--intake-queue", "1024"];

/// Measures the capacity, then sends twice as much.
pub(super) fn run(binary: &Path, place: &Path) -> Result<()> {
    let alpes = Alpes::fresh(binary, &place.join("overload"))?;
    let running = alpes.serve_with_key(&Start::with(&ARGUMENTS))?;
    let scene = Scene::create(running.control.clone(), 30)?;
    let address = running.control.address;
    let conversions = |source: &str| Conversions::new(&scene, source, 1, 0, 1 << 39);
    let saturated = closed::Plan { address, connections: 64, warm_up: WARM_UP, time: TIME };
    let capacity = closed::run(&saturated, conversions("capacity"))?.meter;
    ensure!(capacity.failures() == 0, "measuring the capacity: {}", capacity.summary());
    let rate = 2 * capacity.rate();
    let arrivals = open::Arrivals::Even;
    let twice = open::Plan { address, connections: CONNECTIONS, rate, arrivals, warm_up: WARM_UP, time: TIME };
    let overloaded = open::run(&twice, conversions("overload"))?.meter;
    println!("capacity {}/s; at {rate}/s: {}, {:?}", capacity.rate(), overloaded.summary(), overloaded.statuses);
    running.stop()?;
    judge(&capacity, &overloaded)
}

fn judge(capacity: &Meter, overloaded: &Meter) -> Result<()> {
    ensure!(overloaded.failures() == 0, "answers other than 2xx and 429: {:?}", overloaded.statuses);
    ensure!(overloaded.without_retry_after == 0, "{} refusals without Retry-After", overloaded.without_retry_after);
    let percent = 100 * overloaded.rate() / capacity.rate().max(1);
    ensure!(percent >= SERVED_PERCENT, "only {percent} % of the capacity was served at twice the capacity");
    let refused = overloaded.statuses.get(&429).copied().unwrap_or(0);
    ensure!(refused > 0, "nothing was refused, so requests pile up: {}", overloaded.summary());
    println!("{percent} % of the capacity was served, {refused} requests were refused with 429 and Retry-After");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn meter(replies: &[(u16, bool)]) -> Meter {
        let mut meter = Meter { elapsed: Duration::from_secs(1), ..Meter::default() };
        replies.iter().for_each(|(status, retry_after)| meter.reply(Instant::now(), *status, *retry_after));
        meter
    }

    #[test]
    fn overload_is_judged_by_what_is_served_and_how_the_rest_is_refused() {
        let capacity = meter(&[(201, false); 10]);
        let with = |served: usize, other: (u16, bool)| [vec![(201, false); served], vec![other; 10]].concat();
        assert!(judge(&capacity, &meter(&with(9, (429, true)))).is_ok());
        assert!(judge(&capacity, &meter(&with(8, (429, true)))).is_err());
        assert!(judge(&capacity, &meter(&with(9, (429, false)))).is_err());
        assert!(judge(&capacity, &meter(&with(9, (500, false)))).is_err());
        assert!(judge(&capacity, &meter(&with(9, (201, false)))).is_err(), "everything waits");
    }
}
