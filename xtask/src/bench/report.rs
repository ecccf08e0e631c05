//! Repetitions to medians, and medians to the table of `docs/benchmarks.md`.

use super::environment::Conditions;
use super::figures::{median, show};
use super::{Readings, Suite};
use crate::load::random::Random;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// One repetition with its conditions.
pub(super) struct Repetition {
    pub(super) measurement: &'static str,
    pub(super) readings: Readings,
    pub(super) conditions: Conditions,
}

/// The published figures: the last result of each.
pub(super) struct Report {
    suite: &'static Suite,
    pub(super) environment: Value,
    figures: Map<String, Value>,
}

impl Report {
    /// What is published now, or nothing.
    pub(super) fn load(root: &Path, suite: &'static Suite) -> Result<Self> {
        let file = root.join(format!("docs/{}.json", suite.document));
        let published = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?,
            Err(_) => Value::Null,
        };
        let figures = published["figures"].as_object().cloned().unwrap_or_default();
        Ok(Self { suite, environment: published["environment"].clone(), figures })
    }

    /// Takes over one measurement's repetitions. Void ones count only when there is no other.
    pub(super) fn add(&mut self, repetitions: &[Repetition]) {
        let sound = |repetition: &&Repetition| repetition.conditions.void().is_none();
        let any_sound = repetitions.iter().any(|repetition| sound(&repetition));
        let counted: Vec<_> = repetitions.iter().filter(|repetition| !any_sound || sound(repetition)).collect();
        let measurement = repetitions.first().map(|repetition| repetition.measurement);
        for figure in self.suite.figures.iter().filter(|figure| Some(figure.measurement) == measurement) {
            let named = |repetition: &&Repetition| {
                let values = &repetition.readings.values;
                values.iter().find(|(name, _)| *name == figure.name).map(|(_, value)| *value)
            };
            let values: Vec<f64> = counted.iter().filter_map(named).collect();
            let mut entry = json!({
                "value": median(&values), "unit": figure.unit, "repetitions": values,
                "must": figure.must, "aim": figure.aim, "measured": self.environment,
                "disk_syncs_per_second": median(&counted.iter().flat_map(|one| one.conditions.disk).collect::<Vec<_>>()),
            });
            if figure.unit == "x" {
                entry["interval"] = json!(interval(&values));
            }
            if !any_sound {
                entry["void"] = json!(counted.iter().find_map(|repetition| repetition.conditions.void()));
            }
            self.figures.insert(figure.name.to_owned(), entry);
        }
    }

    /// The table, as Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("| | must reach | aim | reached | |\n|---|---|---|---|---|\n");
        let goal =
            |goal: Option<f64>, unit: &str| goal.map(|goal| format!("{} {unit}", show(goal))).unwrap_or_default();
        for figure in self.suite.figures {
            let Some(entry) = self.figures.get(figure.name) else { continue };
            let value = entry["value"].as_f64().unwrap_or(f64::NAN);
            let mut reached = format!("{} {}", show(value), figure.unit).trim_end().to_owned();
            if let (Some(low), Some(high)) = (entry["interval"][0].as_f64(), entry["interval"][1].as_f64()) {
                write!(reached, " ({} to {})", show(low), show(high)).expect("writes to memory");
            }
            let void = entry["void"].as_str().map(|reason| format!(" void: {reason}")).unwrap_or_default();
            let (must, aim) = (goal(figure.must, figure.unit), goal(figure.aim, figure.unit));
            let verdict = figure.verdict(value);
            writeln!(text, "| {} | {must} | {aim} | {reached} | {verdict}{void} |", figure.title).expect("in memory");
        }
        text
    }

    /// Writes both files of `docs/`.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let json = json!({"environment": self.environment, "figures": self.figures});
        let (data, table) = (format!("docs/{}.json", self.suite.document), format!("docs/{}.md", self.suite.document));
        std::fs::write(root.join(&data), format!("{json:#}\n"))?;
        std::fs::write(root.join(&table), self.document())?;
        println!("written: {table}, {data}; raw data in target/bench/");
        Ok(())
    }

    fn document(&self) -> String {
        let fact = |name: &str| match &self.environment[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let machine = format!(
            "{} cores ({}), {} memory, {}, {}",
            fact("cores"),
            fact("cpu"),
            fact("memory"),
            fact("file_system"),
            fact("kernel")
        );
        let versions = format!("{}, SQLite {}, commit {}", fact("rustc"), fact("sqlite"), fact("commit"));
        let disk: Vec<f64> =
            self.figures.values().filter_map(|entry| entry["disk_syncs_per_second"].as_f64()).collect();
        format!(
            "# {}\n\nGenerated by `cargo x bench`; do not edit. Medians of the repetitions in `{}.json`. \
             Server and load generator share\none machine: {machine}. {versions}. Measured {}. The disk does {} syncs \
             of 4 KiB per second.\n\n{}\n{}",
            self.suite.title,
            self.suite.document,
            fact("date"),
            show(median(&disk)),
            self.table(),
            self.suite.rules
        )
    }
}

pub(super) const RULES: &str = "\
## How it is measured
- `synchronous=FULL`, WAL; a request is acknowledged after its commit is synced. `cargo x bench --only syncs` counts the
  syncs with strace.
- Saturated figures come from a closed loop, latencies from an open loop: they count from the planned send time, so
  that a stall shows in every request that was planned in it.
- Ten seconds of warm-up are not counted. A repetition is void, and made again up to twice, when others used more than
  0.2 cores or the disk's speed changed by more than a quarter between before and after. A figure with only void
  repetitions says so.
- Ratios are medians over pairs in alternating order on fresh databases, with a bootstrap 95 % interval.
- The bare loop writes the rows of a recorded data set, all tables and indexes of the intake, with multi-row
  statements of 64 rows in transactions of 4,096 conversions, `synchronous=FULL`, and nothing else: no HTTP, no JSON, no checks.
- Raw data, with every repetition's histogram and conditions, is left in `target/bench/`.
";

/// A bootstrap 95 % interval of the median, from a fixed seed.
fn interval(values: &[f64]) -> [f64; 2] {
    let mut random = Random::new(1);
    let mut pick = || values[usize::try_from(random.below(values.len() as u64)).expect("an index")];
    let mut medians: Vec<f64> =
        (0..1_000).map(|_| median(&(0..values.len()).map(|_| pick()).collect::<Vec<_>>())).collect();
    medians.sort_by(f64::total_cmp);
    [medians[25], medians[974]]
}

/// Everything about the repetitions, to keep.
pub(super) fn raw(repetitions: &[Repetition]) -> Value {
    let one = |repetition: &Repetition| {
        let values: Map<String, Value> =
            repetition.readings.values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "measurement": repetition.measurement, "values": values,
            "conditions": repetition.conditions.to_json(), "raw": repetition.readings.raw,
        })
    };
    Value::Array(repetitions.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_around_the_median() {
        let values = [4.0, 5.0, 5.5, 5.6, 6.0, 6.1, 9.0];
        let [low, high] = interval(&values);
        assert!(low <= 5.6 && 5.6 <= high && low >= 4.0 && high <= 9.0, "{low} to {high}");
        assert_eq!(interval(&[2.0]).map(f64::to_bits), [2.0_f64.to_bits(); 2]);
    }
}
