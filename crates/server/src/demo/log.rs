//! The purchase log that the demo runs on: 69,659 purchases of 23,570 customers (see `demo/README.md` for its origin).

use std::io::Read as _;

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use kernel::Timestamp;

/// The log as shipped, compressed.
const COMPRESSED: &[u8] = include_bytes!("../../demo/cdnow_master.txt.gz");

/// Seconds of a day.
pub(super) const DAY_SECONDS: i64 = 86_400;

/// One row of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purchase {
    /// The number of the data row, from 1: the purchase's id, because equal purchases of one day are different ones.
    pub(super) line: u32,
    /// The customer's number.
    pub(super) customer: u32,
    /// Midnight (UTC) of the day of purchase, in seconds since 1970.
    pub(super) day_start_seconds: i64,
    /// What was paid, in cents.
    pub(super) amount_minor: i64,
}

/// Reads the whole log.
pub(super) fn read() -> anyhow::Result<Vec<Purchase>> {
    let mut text = String::new();
    GzDecoder::new(COMPRESSED).read_to_string(&mut text).context("the purchase log is damaged")?;
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Vec<Purchase>> {
    let rows = text.lines().skip(1).filter(|row| !row.trim().is_empty());
    (1..)
        .zip(rows)
        .map(|(line, row)| purchase(line, row).with_context(|| format!("data row {line} of the purchase log")))
        .collect()
}

fn purchase(line: u32, row: &str) -> anyhow::Result<Purchase> {
    let columns: Vec<&str> = row.split_whitespace().collect();
    ensure!(columns.len() == 4, "expected four columns");
    let (date, dollars) = (columns[1], columns[3]);
    ensure!(date.len() == 8 && date.is_ascii(), "expected a date like 19970101");
    let day: Timestamp = format!("{}-{}-{}T00:00:00Z", &date[..4], &date[4..6], &date[6..]).parse()?;
    let (whole, cents) = dollars.split_once('.').context("expected an amount like 11.77")?;
    ensure!(cents.len() == 2, "expected two decimals");
    Ok(Purchase {
        line,
        customer: columns[0].parse()?,
        day_start_seconds: day.as_micros() / 1_000_000,
        amount_minor: whole.parse::<i64>()? * 100 + cents.parse::<i64>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_whole() {
        let log = read().unwrap();
        assert_eq!(log.len(), 69_659);
        assert_eq!(log.iter().map(|purchase| purchase.amount_minor).sum::<i64>(), 250_031_563);
        assert_eq!(log.iter().filter(|purchase| purchase.amount_minor == 0).count(), 80);
        assert_eq!(log[0], Purchase { line: 1, customer: 1, day_start_seconds: 852_076_800, amount_minor: 1_177 });
    }

    #[test]
    fn a_broken_row_is_named() {
        let error = format!("{:#}", parse("head\n 00001 19970101 1 11.77\n 00002 1997 1 2.00\n").unwrap_err());
        assert!(error.contains("data row 2") && error.contains("19970101"), "{error}");
    }
}
