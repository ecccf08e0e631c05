//! What a commission should have posted, and the difference to what it has (rules section 6). One formula serves the first
//! posting, every correction and the proof.

use events::conversions::Refunds;
use kernel::{Result, ratio_half_up};

/// What is kept of `gross_minor` after `refunds` of a conversion worth `amount_minor`: proportional, rounded half-up
/// once over the sum, so that refunds in any number of parts and any order give the same. A conversion worth nothing has
/// no proportion: the whole is taken back, or nothing. Fault: `amount_overflow` for amounts that cannot be.
pub(crate) fn kept(gross_minor: i64, amount_minor: i64, refunds: &Refunds) -> Result<i64> {
    if amount_minor == 0 {
        return Ok(if refunds.whole { 0 } else { gross_minor });
    }
    let left_minor = amount_minor.saturating_sub(refunds.refunded_minor.max(0)).max(0);
    ratio_half_up(gross_minor, left_minor, amount_minor)
}

/// What a commission has in the books: nothing, or its gross less what refunds took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// What was earned, minor units.
    pub(crate) gross_minor: i64,
    /// What is left of it, minor units.
    pub(crate) kept_minor: i64,
}

/// What must be posted to get from one position to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    /// To accrue, minor units; negative: to undo.
    pub(crate) accrued_minor: i64,
    /// To reverse, minor units; negative: to restore.
    pub(crate) reversed_minor: i64,
}

impl Position {
    /// Where a commission of `gross_minor` should stand after `refunds`. Once approved, the gross is frozen, so that the
    /// same formula holds before and after. Fault: `amount_overflow` for amounts that cannot be.
    pub(crate) fn target(gross_minor: i64, amount_minor: i64, refunds: &Refunds) -> Result<Self> {
        Ok(Self { gross_minor, kept_minor: kept(gross_minor, amount_minor, refunds)? })
    }

    /// Target minus posted.
    #[must_use]
    pub(crate) const fn minus(self, posted: Self) -> Difference {
        Difference {
            accrued_minor: self.gross_minor - posted.gross_minor,
            reversed_minor: (self.gross_minor - self.kept_minor) - (posted.gross_minor - posted.kept_minor),
        }
    }
}
