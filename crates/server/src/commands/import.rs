//! `alpes import FILE.csv`: conversions from a file, through the same intake as the API's. Rows that are refused are listed
//! with their line and reason; the others are recorded. Running it again is safe, because natural keys answer.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use conversions::{CustomerKeys, Fact, NewConversion};
use indicatif::{ProgressBar, ProgressStyle};
use kernel::Currency;
use platform::{Db, Lane};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::Common;
use crate::output::{self, Table};
use crate::wiring::{self, Settings};
use crate::worker::Worker;

/// The fields of a conversion that a column can fill.
const FIELDS: &[&str] = &[
    "source",
    "external_id",
    "kind",
    "campaign_id",
    "partner_id",
    "click_id",
    "code",
    "customer_ref",
    "occurred_at",
    "amount",
    "amount_minor",
    "currency",
];
/// Rows per transaction.
const BATCH: usize = 1_000;
/// A file above this size is refused: cut it into pieces.
const LARGEST_BYTES: u64 = 1 << 30;

/// What `import` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// A CSV file in UTF-8 with a heading line. Columns: source, external_id, occurred_at, amount (decimal) or
    /// amount_minor (whole), currency, and optionally kind, campaign_id, partner_id, code, click_id, customer_ref
    file: PathBuf,
    /// Take a field from a column of another name, for example --map external_id=order_number; may be repeated
    #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = pair)]
    columns: Vec<(String, String)>,
    /// Give a field the same value in every row, for example --set currency=USD; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
    /// Write the refused rows to this file as CSV
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("expected FIELD=NAME")?;
    if !FIELDS.contains(&field) {
        return Err(format!("there is no field {field}; the fields are {}", FIELDS.join(", ")));
    }
    Ok((field.to_owned(), value.to_owned()))
}

/// What came of the file.
#[derive(Debug, Default, Serialize)]
struct Report {
    rows: u64,
    recorded: u64,
    duplicates: u64,
    refused: Vec<Refusal>,
}

/// A row that was refused, and why.
#[derive(Debug, Serialize)]
struct Refusal {
    line: u64,
    code: String,
    reason: String,
}

/// Imports the file; answers whether every row was accepted.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<bool> {
    let name = arguments.file.display().to_string();
    let text = read(&arguments.file).with_context(|| format!("cannot read {name}"))?;
    let db = wiring::open(&common.location()?)?;
    let keys = CustomerKeys::load_or_create(&db)?;
    let bar = progress(u64::try_from(text.lines().count().saturating_sub(1))?);
    let report = rows(&db, &keys, arguments, &text, &bar)?;
    bar.set_message("deciding");
    Worker::new(Settings::default(), Arc::new(payments::gateways::sandbox::Sandbox::default())).run_until_idle(&db)?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.refused {
        let mut file = csv::Writer::from_path(path)?;
        report.refused.iter().try_for_each(|refusal| file.serialize(refusal))?;
        file.flush()?;
    }
    if common.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    Ok(report.refused.is_empty())
}

fn read(path: &std::path::Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size <= LARGEST_BYTES, "the file has {size} bytes; cut it into pieces of at most {LARGEST_BYTES}");
    let mut bytes = Vec::new();
    file.take(LARGEST_BYTES).read_to_end(&mut bytes)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        bail!("the file is UTF-16; save it as UTF-8");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
            bail!("line {line} is not UTF-8; save the file as UTF-8");
        }
    }
}

/// Which column fills which field.
fn columns(arguments: &Arguments, headings: &csv::StringRecord) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut found = BTreeMap::new();
    for &field in FIELDS {
        let mapped = arguments.columns.iter().find(|(name, _)| name == field).map(|(_, column)| column.as_str());
        match headings.iter().position(|heading| heading.trim() == mapped.unwrap_or(field)) {
            Some(place) => {
                found.insert(field, place);
            }
            None if mapped.is_some() => {
                bail!("there is no column {:?}; the columns are {}", mapped.unwrap_or_default(), list(headings))
            }
            None => {}
        }
    }
    let given = |field: &str| found.contains_key(field) || arguments.values.iter().any(|(name, _)| name == field);
    for needed in ["source", "external_id", "occurred_at", "currency"] {
        let help = format!("--map {needed}=COLUMN or --set {needed}=VALUE");
        ensure!(given(needed), "nothing fills {needed}: use {help}; the columns are {}", list(headings));
    }
    ensure!(
        given("amount") || given("amount_minor"),
        "nothing fills amount or amount_minor; the columns are {}",
        list(headings)
    );
    Ok(found)
}

fn list(headings: &csv::StringRecord) -> String {
    headings.iter().collect::<Vec<_>>().join(", ")
}

fn rows(db: &Db, keys: &CustomerKeys, arguments: &Arguments, text: &str, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let columns = columns(arguments, reader.headers()?)?;
    let mut report = Report::default();
    let mut batch = Vec::with_capacity(BATCH);
    for row in reader.records() {
        report.rows += 1;
        let line = report.rows + 1;
        let prepared = row.map_err(|error| refusal(line, "row_unreadable", error.to_string())).and_then(|row| {
            let conversion =
                conversion(arguments, &columns, &row).map_err(|reason| refusal(line, "invalid", reason))?;
            let fact = Fact::Conversion(conversion);
            conversions::prepare(fact, keys, db.now()).map_err(|fault| refusal(line, fault.code(), fault.to_string()))
        });
        match prepared {
            Ok(prepared) => batch.push((line, prepared)),
            Err(refusal) => report.refused.push(refusal),
        }
        if batch.len() == BATCH {
            record(db, &mut batch, &mut report)?;
        }
        bar.inc(1);
    }
    record(db, &mut batch, &mut report)?;
    report.refused.sort_by_key(|refusal| refusal.line);
    Ok(report)
}

fn refusal(line: u64, code: &str, reason: String) -> Refusal {
    Refusal { line, code: code.to_owned(), reason }
}

/// The conversion of a row, or what is wrong with it.
fn conversion(
    arguments: &Arguments,
    columns: &BTreeMap<&'static str, usize>,
    row: &csv::StringRecord,
) -> Result<NewConversion, String> {
    let mut fields: BTreeMap<&str, &str> =
        arguments.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.extend(
        columns
            .iter()
            .filter_map(|(&field, &place)| Some((field, row.get(place)?)).filter(|(_, cell)| !cell.is_empty())),
    );
    if let Some((field, cell)) = fields.iter().find(|(_, cell)| cell.starts_with(['=', '+', '@', '\t'])) {
        return Err(format!("{field} looks like a spreadsheet formula: {cell:?}"));
    }
    let currency: Currency =
        fields.remove("currency").unwrap_or_default().parse().map_err(|error| format!("currency: {error}"))?;
    let minor = match (fields.remove("amount_minor"), fields.remove("amount")) {
        (Some(minor), None) => {
            minor.parse().map_err(|_| format!("amount_minor: expected whole minor units, not {minor:?}"))?
        }
        (None, Some(amount)) => decimal(amount, currency)?,
        _ => return Err("expected one of amount and amount_minor".to_owned()),
    };
    let mut body: Map<String, Value> =
        fields.into_iter().map(|(field, cell)| (field.to_owned(), Value::from(cell))).collect();
    body.insert("amount".to_owned(), json!({ "amount_minor": minor, "currency": currency }));
    serde_json::from_value(Value::Object(body)).map_err(|error| error.to_string())
}

/// Whole minor units of a decimal amount: `12.34` USD is 1234. Never through a float.
fn decimal(text: &str, currency: Currency) -> Result<i64, String> {
    let wrong =
        || format!("amount: expected a number like 12.34 with at most {} decimals, not {text:?}", currency.decimals());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let decimals = currency.decimals() as usize;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > decimals || text.ends_with('.') {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<decimals$}").parse().map_err(|_| wrong())
}

fn record(db: &Db, batch: &mut Vec<(u64, conversions::Prepared)>, report: &mut Report) -> anyhow::Result<()> {
    let (lines, prepared): (Vec<u64>, Vec<conversions::Prepared>) = batch.drain(..).unzip();
    let correlations = vec![None; prepared.len()];
    let outcomes = db.write("intake", Lane::Front, "import", |tx| conversions::record(tx, &prepared, &correlations))?;
    for (line, outcome) in lines.into_iter().zip(outcomes) {
        match outcome {
            Ok(receipt) if receipt.duplicate => report.duplicates += 1,
            Ok(_) => report.recorded += 1,
            Err(fault) => report.refused.push(refusal(line, fault.code(), fault.to_string())),
        }
    }
    Ok(())
}

/// A live progress bar on a terminal; nothing elsewhere.
pub(crate) fn progress(rows: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:32} {pos}/{len} {per_sec} {msg}");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print(report: &Report) {
    output::say!(
        "{} rows: {} recorded, {} known already, {} refused.",
        report.rows,
        report.recorded,
        report.duplicates,
        report.refused.len()
    );
    if !report.refused.is_empty() {
        let mut table = Table::new(&["line", "code", "reason"]);
        for refusal in report.refused.iter().take(20) {
            table.row([refusal.line.to_string(), refusal.code.clone(), refusal.reason.clone()]);
        }
        table.print();
        if report.refused.len() > 20 {
            output::say!("  … and {} more; --refused FILE writes them all", report.refused.len() - 20);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_follow_the_currency() {
        let usd: Currency = "USD".parse().unwrap();
        let yen: Currency = "JPY".parse().unwrap();
        let dinar: Currency = "KWD".parse().unwrap();
        assert_eq!(decimal("12.34", usd), Ok(1_234));
        assert_eq!(decimal("12.3", usd), Ok(1_230));
        assert_eq!(decimal("12", usd), Ok(1_200));
        assert_eq!(decimal("12", yen), Ok(12));
        assert_eq!(decimal("1.234", dinar), Ok(1_234));
        for (bad, currency) in [
            ("12.345", usd),
            ("12.5", yen),
            ("1e3", usd),
            ("-1", usd),
            ("NaN", usd),
            ("12,50", usd),
            ("", usd),
            ("12.", usd),
            ("99999999999999999999", usd),
        ] {
            assert!(decimal(bad, currency).is_err(), "{bad}");
        }
    }
}
