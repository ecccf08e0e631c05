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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refunds(refunded_minor: i64) -> Refunds {
        Refunds { refunded_minor, whole: false, excess_minor: 0 }
    }

    #[test]
    fn what_is_kept() {
        // (gross, amount, refunded, kept)
        let cases = [
            (94, 1_177, 0, 94),
            (94, 1_177, 589, 47),
            (94, 1_177, 1_177, 0),
            (1, 2, 1, 1),
            (1, 3, 2, 0),
            (2_500, 100, 99, 25),
            (i64::MAX, i64::MAX, 1, i64::MAX - 1),
        ];
        for (gross, amount, refunded, expected) in cases {
            assert_eq!(kept(gross, amount, &refunds(refunded)).unwrap(), expected, "{gross} {amount} {refunded}");
        }
        assert_eq!(kept(3, 0, &refunds(0)).unwrap(), 3);
        assert_eq!(kept(3, 0, &Refunds { whole: true, ..refunds(0) }).unwrap(), 0);
    }

    proptest! {
        /// However a refund is cut into parts and in whatever order they come, what was reversed sums exactly to what the
        /// one formula says, and what is kept stays between nothing and the gross.
        #[test]
        fn parts_sum_exactly(
            gross in 0_i64..1_000_000_000_000,
            amount in 1_i64..1_000_000_000_000,
            parts in proptest::collection::vec(-1_000_000_000_000_i64..1_000_000_000_000, 0..12),
        ) {
            let mut posted = Position::target(gross, amount, &refunds(0)).unwrap();
            prop_assert_eq!(posted, Position { gross_minor: gross, kept_minor: gross });
            let (mut sum, mut reversed) = (0, 0);
            for part in &parts {
                sum += part;
                let target = Position::target(gross, amount, &refunds(sum.clamp(0, amount))).unwrap();
                let difference = target.minus(posted);
                prop_assert_eq!(difference.accrued_minor, 0);
                reversed += difference.reversed_minor;
                posted = target;
                prop_assert!((0..=gross).contains(&posted.kept_minor));
            }
            let once = kept(gross, amount, &refunds(sum.clamp(0, amount))).unwrap();
            prop_assert_eq!(posted.kept_minor, once);
            prop_assert_eq!(gross - reversed, once);
            let undone = Position::default().minus(posted);
            prop_assert_eq!((undone.accrued_minor, undone.reversed_minor), (-gross, -reversed));
        }

        #[test]
        fn more_refunds_never_keep_more(
            gross in 0_i64..1_000_000_000, amount in 1_i64..1_000_000_000, a in 0_i64..1_000_000_000, b in 0_i64..1_000_000_000,
        ) {
            let (less, more) = (a.min(b), a.max(b));
            let kept = |refunded| kept(gross, amount, &refunds(refunded)).unwrap();
            prop_assert!(kept(more) <= kept(less));
        }
    }
}
