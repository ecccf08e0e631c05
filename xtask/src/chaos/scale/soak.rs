//! `cargo x soak`: half of the load for a long time, a fault at a random moment of every minute, and what that costs:
//! requests that were not answered in time, how often, for how long, and memory that grows.

use super::cluster::Cluster;
use super::faults::{self, Fault};
use super::{RATE, World};
use crate::load::random::Random;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Arguments of `cargo x soak`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How long, at one fault a minute.
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Seed of the faults and of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const MINUTE: Duration = Duration::from_secs(60);
/// A life of fewer samples says nothing about growth.
const SAMPLES: usize = 4;

/// Runs it and prints a line per minute.
///
/// # Errors
/// When anything is lost, doubled or refused in another way than agreed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = crate::process::root()?;
    let binary = crate::docs::alpes(&root)?;
    let mut world = World::create(&root, &binary, &root.join("target/chaos/soak"), args.seed, true)?;
    let mut random = Random::new(args.seed);
    let programme = faults::programme(false, &world.cluster);
    let (mut sums, mut memory) = (Sums::default(), Memory::default());
    let mut wrong = Vec::new();
    println!("{} requests/s for {} minutes, seed {}\n{}", RATE / 2, args.minutes, args.seed, super::Line::HEADINGS);
    for minute in 1..=args.minutes {
        let fault = programme[usize::try_from(random.below(programme.len() as u64)).expect("an index")];
        let before = Duration::from_millis(5_000 + random.below(15_000));
        let line;
        (world, line) = world
            .minute(fault, before, &mut sums, &mut memory)
            .with_context(|| format!("minute {minute}, {fault}, seed {}", args.seed))?;
        println!("{line}");
        wrong.extend(line.wrong.iter().map(|what| format!("minute {minute}, {fault}: {what}")));
    }
    println!("{sums}\n{memory}");
    let finished = world.finish();
    crate::chaos::report("things that were not as they should be", &wrong)?;
    let count = finished?;
    println!("{count} acknowledged facts: none lost, none doubled; commissions to the cent; verify finds nothing");
    Ok(())
}

impl World {
    /// A minute of load with a fault in it, and a comparison after it.
    fn minute(
        self,
        fault: Fault,
        before: Duration,
        sums: &mut Sums,
        memory: &mut Memory,
    ) -> Result<(Self, super::Line)> {
        let began = Instant::now();
        let around = (before, MINUTE);
        let (mut world, line, outcome) = self.under_load(fault, RATE / 2, around)?;
        sums.in_time += outcome.latency.count() - outcome.late;
        sums.others += outcome.late + outcome.given_up + outcome.not_sent + line.errors;
        sums.under_load += began.elapsed();
        if outcome.late + outcome.not_sent + line.errors > 0 {
            sums.failures += 1;
            sums.recovering += line.back.unwrap_or(fault.back_within());
        }
        memory.sample(&mut world.cluster)?;
        Ok((world, line))
    }
}

/// What all minutes add up to.
#[derive(Default)]
struct Sums {
    in_time: u64,
    others: u64,
    under_load: Duration,
    /// Faults after which a request was late or failed.
    failures: u32,
    recovering: Duration,
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = (self.in_time + self.others).max(1);
        // In hundredths of a percent, rounded down.
        let available = 10_000 * self.in_time / all;
        write!(
            f,
            "{}.{:02} % of {all} requests were answered within a second; {} faults were felt, one in {} s; \
             the installation wrote again {} ms after each had ended",
            available / 100,
            available % 100,
            self.failures,
            self.under_load.as_secs() / u64::from(self.failures.max(1)),
            self.recovering.as_millis() / u128::from(self.failures.max(1))
        )
    }
}

/// Resident memory of each life of a process: seconds since the first sample, and kB.
#[derive(Default)]
struct Memory {
    began: Option<Instant>,
    lives: BTreeMap<(&'static str, u32), Vec<(i64, i64)>>,
}

impl Memory {
    fn sample(&mut self, cluster: &mut Cluster) -> Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        for name in cluster.always() {
            let (pid, kilobytes) = cluster.memory_kb(name)?;
            let sample = (began.elapsed().as_secs().try_into()?, kilobytes.try_into()?);
            self.lives.entry((name, pid)).or_default().push(sample);
        }
        Ok(())
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("resident memory of lives of at least four minutes:")?;
        for ((name, _), samples) in self.lives.iter().filter(|(_, samples)| samples.len() >= SAMPLES) {
            let last = samples.last().map_or(0, |(_, kilobytes)| *kilobytes);
            write!(f, "\n  {name:<14} {:>4} MB, {:+} kB/h", last / 1_000, 3_600 * rise(samples) / 1_000)?;
        }
        Ok(())
    }
}

/// The slope of the line that fits best, in thousandths.
fn rise(samples: &[(i64, i64)]) -> i64 {
    let count = i64::try_from(samples.len()).unwrap_or(i64::MAX);
    let sum = |of: fn(&(i64, i64)) -> i64| samples.iter().map(of).sum::<i64>();
    let (x, y) = (sum(|sample| sample.0), sum(|sample| sample.1));
    let above = count * sum(|sample| sample.0 * sample.1) - x * y;
    let below = count * sum(|sample| sample.0 * sample.0) - x * x;
    if below > 0 { 1_000 * above / below } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_best_line() {
        assert_eq!(rise(&[(0, 10), (1, 12), (2, 14)]), 2_000);
        assert_eq!(rise(&[(0, 10), (1, 12), (2, 10)]), 0);
        assert_eq!(rise(&[(5, 10)]), 0);
    }

    #[test]
    fn availability_is_rounded_down() {
        let sums = Sums { in_time: 99_999, others: 1, ..Sums::default() };
        assert!(sums.to_string().starts_with("99.99 % of 100000 requests"));
    }
}
