//! What commit-ordered positions cost: transactions that add events to the log, by `pgbench` on PostgreSQL, with the log's
//! head as the turn to write, and with a sequence that lets writers overtake each other.

use super::{Context, Readings};
use crate::load::server::Alpes;
use crate::process::{Show, run};
use crate::services;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::process::Command;

/// Writers at once, and events in a transaction: a single one, and a batch.
const CASES: [(u32, u32); 6] = [(1, 1), (4, 1), (8, 1), (1, 64), (4, 64), (8, 64)];
const NAMES: [[&str; 2]; 6] = [
    ["head-1-1", "sequence-1-1"],
    ["head-4-1", "sequence-4-1"],
    ["head-8-1", "sequence-8-1"],
    ["head-1-64", "sequence-1-64"],
    ["head-4-64", "sequence-4-64"],
    ["head-8-64", "sequence-8-64"],
];

/// Events like a recorded conversion's: ids of their own, a payload of its size.
const EVENT: &str = "decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), 'conversion', 'cnv_' || gen_random_uuid(), \
                     'conversions.recorded.v1', repeat('x', 550), 0, 0, 'bench'";
const COLUMNS: &str = "position, id, aggregatetype, aggregateid, type, payload, occurred_at, shard, actor";

fn script(is_ordered: bool, events: u32) -> String {
    if is_ordered {
        return format!(
            "BEGIN;\nSELECT position FROM log_head WHERE id = 1 FOR UPDATE \\gset\n\
             INSERT INTO outbox_event ({COLUMNS}) SELECT :position + n, {EVENT} FROM generate_series(1, {events}) n;\n\
             UPDATE log_head SET position = :position + {events} WHERE id = 1;\nCOMMIT;\n"
        );
    }
    format!(
        "BEGIN;\n\
         INSERT INTO outbox_event ({COLUMNS}) SELECT nextval('positions'), {EVENT} FROM generate_series(1, {events}) n;\nCOMMIT;\n"
    )
}

/// Events per second of each case, both ways in turn on fresh databases.
pub(super) fn cost(context: &Context) -> Result<Readings> {
    let mut values = Vec::new();
    let mut raw = Vec::new();
    for ((writers, events), names) in CASES.into_iter().zip(NAMES) {
        for turn in 0..2 {
            let is_ordered = (turn + context.repetition).is_multiple_of(2);
            let rate = events_per_second(context, is_ordered, writers, events)?;
            values.push((names[usize::from(!is_ordered)], rate));
            raw.push(json!({"with_head": is_ordered, "writers": writers, "events": events, "events_per_second": rate}));
        }
    }
    Ok(Readings { values, raw: json!(raw) })
}

fn events_per_second(context: &Context, is_ordered: bool, writers: u32, events: u32) -> Result<f64> {
    let mut alpes = Alpes::fresh(&context.binary, &context.data.join("head"))?;
    let url = context.server.as_ref().context("over a server")?.fresh_database("head")?;
    alpes.database = Some(url.clone());
    // The schema is the product's own.
    alpes.create_key()?;
    services::postgres_says(&url, "CREATE SEQUENCE positions START 1000000")?;
    let file = context.data.join("head.sql");
    std::fs::write(&file, script(is_ordered, events))?;
    let mut pgbench = Command::new("pgbench");
    let seconds = context.seconds(6, 2).as_secs().to_string();
    pgbench.args(["--no-vacuum", "--protocol", "prepared", "--time", &seconds, "--jobs", "2"]);
    pgbench.args(["--client", &writers.to_string(), "--file"]).arg(&file).arg(&url);
    let outcome = run(pgbench, Show::Nothing)?;
    ensure!(outcome.success, "pgbench: {}", outcome.text);
    let rate =
        outcome.text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    Ok(rate.with_context(|| format!("pgbench tells no rate: {}", outcome.text))? * f64::from(events))
}
