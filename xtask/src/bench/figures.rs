//! The figures, and what each must reach and aims at.

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// One figure of the table.
pub(super) struct Figure {
    /// As the measurements name it.
    pub(super) name: &'static str,
    pub(super) measurement: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// What it must reach; `None` for figures that only explain others.
    pub(super) must: Option<f64>,
    pub(super) aim: Option<f64>,
}

/// Judged against what it must reach and aims at.
pub(super) const fn goal(
    name: &'static str,
    measurement: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
    (must, aim): (f64, f64),
) -> Figure {
    Figure { name, measurement, title, unit, better, must: Some(must), aim: Some(aim) }
}

/// Only reported.
pub(super) const fn fact(
    name: &'static str,
    measurement: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Figure {
    Figure { name, measurement, title, unit, better, must: None, aim: None }
}

use Better::{Higher, Lower};

/// Every figure, in the table's order.
#[rustfmt::skip]
pub(super) const FIGURES: &[Figure] = &[
    goal("single", "single", "single POSTs, 64 connections, saturated, reactions running", "/s", Higher, (10_000.0, 15_000.0)),
    fact("single-backlog", "single", "… events that the reactions are behind after 30 s of it", "", Lower),
    fact("single-alone", "single", "… reactions off", "/s", Higher),
    goal("open-p95", "open", "open loop 5,000/s (Poisson), reactions running: p95", "ms", Lower, (25.0, 10.0)),
    goal("open-p99", "open", "… p99", "ms", Lower, (60.0, 25.0)),
    fact("open-p50", "open", "… p50", "ms", Lower),
    fact("open-lag", "open", "… the generator's own lag, p99", "ms", Lower),
    fact("open-even-p99", "open", "… at equal distances: p99", "ms", Lower),
    fact("open-backlog", "open", "… events that the reactions are behind at the end", "", Lower),
    goal("bulk", "bulk", "bulk of 1,000, reactions off", "conversions/s", Higher, (40_000.0, 60_000.0)),
    fact("bulk-reacting", "bulk", "… reactions running", "conversions/s", Higher),
    goal("reactions", "reactions", "event → attributed → commission + postings + events, batched", "conversions/s", Higher, (8_000.0, 15_000.0)),
    fact("reactions-all", "reactions", "… until every consumer (reports, seal) is done too", "conversions/s", Higher),
    goal("readable-p50", "readable", "2xx → commission readable, 1,000/s: p50", "ms", Lower, (15.0, 5.0)),
    goal("readable-p99", "readable", "… p99", "ms", Lower, (60.0, 25.0)),
    goal("bare", "bare", "bulk against the same rows written by a bare multi-row loop", "x", Higher, (0.5, 0.8)),
    fact("bare-loop", "bare", "… the bare loop", "conversions/s", Higher),
    fact("bare-log-only", "bare", "… the bare loop that never moves its log into the database", "conversions/s", Higher),
    goal("one-transaction", "one-transaction", "single POSTs against one transaction per request", "x", Higher, (5.0, 8.0)),
    fact("one-transaction-rate", "one-transaction", "… one transaction per request", "/s", Higher),
    fact("same", "same", "A against A: the noise of a ratio", "x", Higher),
    fact("syncs-one", "syncs", "syncs per acknowledged POST, one connection (1 = none before its sync)", "", Higher),
    fact("syncs-many", "syncs", "… 64 connections", "", Lower),
    goal("idle-memory", "idle", "idle memory", "MB", Lower, (30.0, 20.0)),
    goal("start", "idle", "start to first 2xx", "ms", Lower, (300.0, 100.0)),
    fact("start-fresh", "idle", "… with an empty directory", "ms", Lower),
    goal("disk", "demo", "disk per conversion after approval, all told", "kB", Lower, (4.5, 3.0)),
    fact("disk-paid", "demo", "… after a payout and the clawbacks that follow it", "kB", Lower),
    goal("demo", "demo", "the demo after the build", "s", Lower, (25.0, 12.0)),
];

impl Figure {
    /// What a value means: reached the aim, the requirement, or neither.
    pub(super) fn verdict(&self, value: f64) -> &'static str {
        let reaches = |goal: Option<f64>| {
            goal.is_some_and(|goal| if self.better == Higher { value >= goal } else { value <= goal })
        };
        match (self.must, reaches(self.aim), reaches(self.must)) {
            (None, _, _) => "",
            (_, true, _) => "aim reached",
            (_, false, true) => "reached",
            (_, false, false) => "**falls short**",
        }
    }
}

/// The median; the mean of the middle two of an even number.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// A value for people: thousands without, small ones with decimals.
pub(super) fn show(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let whole = format!("{value:.0}");
        let (head, tail) = whole.split_at(whole.len() - 3);
        return format!("{head},{tail}");
    }
    if value.abs() >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_the_direction() {
        let rate = goal("a", "a", "", "", Higher, (10.0, 15.0));
        assert_eq!([9.0, 10.0, 15.0].map(|value| rate.verdict(value)), ["**falls short**", "reached", "aim reached"]);
        let latency = goal("a", "a", "", "", Lower, (60.0, 25.0));
        let verdicts = [61.0, 60.0, 25.0].map(|value| latency.verdict(value));
        assert_eq!(verdicts, ["**falls short**", "reached", "aim reached"]);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
    }

    #[test]
    fn values_are_shown_for_people() {
        assert_eq!([12_345.6, 512.4, 12.345, 0.5, 30.0].map(show), ["12,346", "512", "12.35", "0.50", "30"]);
    }
}
