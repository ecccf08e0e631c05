//! The simulation: seeded worlds of the product's own code, judged by an independent reference model and by invariants.
//!
//! `ALPES_SIM_SEEDS` worlds of each kind are run, from seed `ALPES_SIM_FIRST`. A failure says `mismatch` or `invariant`
//! with its seed; the same seed gives the same run, and `ALPES_SIM_TRACE` prints its log.

mod bank;
mod conformance;
mod crash;
mod drive;
mod generate;
mod generate_facts;
mod invariants;
mod judge;
mod mess;
mod plan;
mod reference;
mod reference_attribution;
mod reference_demo;
mod reference_money;
mod reference_tests;
mod told;
mod world;

use std::collections::BTreeMap;

use plan::Mode;
use reference::Decision;
use world::{Sim, Tally, Verdict};

/// The seeds that are asked for.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    let first = number("ALPES_SIM_FIRST", 0);
    first..first + number("ALPES_SIM_SEEDS", 60)
}

/// Runs a world for every seed and ends with the first that is broken.
fn for_every_seed(what: &str, world: impl Fn(u64) -> Verdict<Tally>) {
    let (seeds, mut tally) = (seeds(), Tally::default());
    for seed in seeds.clone() {
        match world(seed) {
            Ok(one) => tally += one,
            Err(broken) => panic!("seed {seed}: {broken}\n  in {what}, so far {tally:?}"),
        }
    }
    println!("{what}: {} seeds from {}, {tally:?}", seeds.clone().count(), seeds.start);
}

/// Runs the world of a seed to its end; `order` is what the plan leaves open.
fn lived(seed: u64, mode: Mode, order: u64) -> Verdict<Sim> {
    let mut sim = Sim::new(generate::plan(seed, mode), order);
    let ended = drive::run(&mut sim).and_then(|()| invariants::at_rest(&mut sim));
    trace(&sim);
    ended.map(|()| sim)
}

/// With `ALPES_SIM_TRACE` set the log of every world is printed: to understand a seed, run it alone.
fn trace(sim: &Sim) {
    if std::env::var_os("ALPES_SIM_TRACE").is_some() {
        let log = sim.db.read(|reader| platform::event_log::range(reader, 0, i64::MAX, &[], usize::MAX));
        for event in log.expect("readable") {
            println!("{:4} {} {} {} {}", event.position, event.time, event.event_type, event.subject, event.payload);
        }
    }
}

#[test]
fn pure_worlds_equal_the_reference() {
    for_every_seed("pure worlds", |seed| {
        let sim = lived(seed, Mode::Pure, seed)?;
        judge::compare(&judge::expected(&sim), &judge::reached(&sim)?, ["expected", "reached "])?;
        Ok(sim.tally)
    });
}

#[test]
fn worlds_with_commands_keep_the_invariants() {
    for_every_seed("worlds with commands", |seed| Ok(lived(seed, Mode::Commands, seed)?.tally));
}

#[test]
fn twin_worlds_end_alike() {
    for_every_seed("twin worlds", |seed| {
        let [one, other] = [seed, seed ^ 0xffff_ffff].map(|order| lived(seed, Mode::Twin, order));
        let (one, other) = (one?, other?);
        judge::compare_twins(&one, &other)?;
        let mut tally = one.tally;
        tally += other.tally;
        Ok(tally)
    });
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let fingerprint = |mode| {
        let sim = lived(seeds().start, mode, 7).unwrap_or_else(|broken| panic!("seed {}: {broken}", seeds().start));
        let seal = sim.db.read(platform::seal::last).expect("readable").expect("something is sealed");
        (sim.db.head(), seal.last_position, seal.hash)
    };
    for mode in [Mode::Pure, Mode::Commands] {
        assert_eq!(fingerprint(mode), fingerprint(mode), "mismatch of two runs of one seed in {mode:?}");
    }
}

/// A simulation of tame worlds proves nothing: every kind of end must come often.
#[test]
fn generated_worlds_are_rich() {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    for seed in 0..200 {
        let outcome = reference::evaluate(&generate::plan(seed, Mode::Pure).world);
        for end in outcome.conversions.values() {
            match &end.decision {
                Decision::Attributed { by, .. } => count(&format!("{by:?}")),
                other => count(&format!("{other:?}")),
            }
            count(if end.excess_minor > 0 { "excess" } else { "no excess" });
            let Some(commission) = &end.commission else { continue };
            count(&format!("{:?}", commission.state));
            count(&format!("terms {}", commission.terms_version));
            count(if commission.bonus_earned { "bonus" } else { "no bonus" });
            let kept_minor = commission.kept_minor;
            count(match kept_minor {
                0 => "nothing kept",
                _ if kept_minor < commission.gross_minor => "a part kept",
                _ => "all kept",
            });
        }
        outcome.refunds.values().for_each(|refund| count(&format!("refund {refund:?}")));
    }
    println!("{counts:#?}");
    let rarest = counts.iter().min_by_key(|(_, count)| **count).expect("something was counted");
    assert!(counts.len() >= 24 && *rarest.1 >= 20, "{counts:#?}");
}
