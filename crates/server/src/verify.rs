//! `alpes verify`: every check of every crate on one consistent snapshot of the database.

use kernel::Result;
use platform::{Check, Reader, event_log, seal};

/// All checks, in the order of the way of a fact through the house.
pub fn checks(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let mut checks = vec![log(reader)?];
    checks.extend(partners::check(reader)?);
    checks.extend(campaigns::check(reader)?);
    checks.extend(conversions::check(reader)?);
    checks.extend(commissions::check(reader)?);
    checks.push(books(reader)?);
    checks.extend(payments::check(reader)?);
    checks.extend(reports::check(reader)?);
    Ok(checks)
}

fn log(reader: &Reader<'_>) -> Result<Check> {
    let (difference, _) = seal::verify(reader)?;
    let checked = event_log::head(reader)?;
    Ok(Check { name: "positions without gaps, the seal", checked, differences: difference.into_iter().collect() })
}

fn books(reader: &Reader<'_>) -> Result<Check> {
    let (checked, differences) = ledger::check(reader)?;
    Ok(Check { name: "ledger: entries, totals, the equation", checked, differences })
}
