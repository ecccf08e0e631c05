//! What is taken back of a conversion (rules section 6): a sum that may come in any number of parts and in any order.

use events::conversions::{RefundKind, Refunds};
use kernel::Amount;

kernel::names! {
    /// How far a refund is.
    pub enum RefundState {
        /// Its conversion is not known yet.
        Recorded = "recorded",
        /// It counts.
        Applied = "applied",
        /// It has no effect; the refusal says why.
        Rejected = "rejected",
    }
}

/// The refunds of a conversion less what was won back. Not clamped, so that the order of the parts does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RefundSum {
    /// Minor units; below zero while a reversal is known before its chargeback.
    pub(crate) sum_minor: i64,
    /// Refunds without an amount less reversals without one: what decides when the conversion is worth nothing.
    pub(crate) whole: i64,
}

impl RefundSum {
    /// Adds a refund of a conversion worth `conversion`. The error says why it has no effect.
    pub(crate) fn add(
        &mut self,
        conversion: Amount,
        kind: RefundKind,
        amount: Option<Amount>,
    ) -> Result<(), &'static str> {
        if amount.is_some_and(|amount| amount.currency() != conversion.currency()) {
            return Err("currency_mismatch");
        }
        let amount_minor = amount.unwrap_or(conversion).minor();
        if amount_minor > conversion.minor() {
            return Err("refund_exceeds_conversion");
        }
        let sign = if kind == RefundKind::ChargebackReversed { -1 } else { 1 };
        // Beyond the range of i64 the excess stops growing: what is taken back has long been everything.
        self.sum_minor = self.sum_minor.saturating_add(sign * amount_minor);
        self.whole += if amount.is_none() { sign } else { 0 };
        Ok(())
    }

    /// What it comes to for a conversion worth `amount_minor`.
    pub(crate) fn totals(self, amount_minor: i64) -> Refunds {
        let refunded_minor = self.sum_minor.clamp(0, amount_minor);
        Refunds {
            refunded_minor,
            whole: if amount_minor == 0 { self.whole > 0 } else { refunded_minor == amount_minor },
            excess_minor: (self.sum_minor - refunded_minor).max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{Currency, Money};
    use proptest::prelude::*;

    fn usd(amount_minor: i64) -> Amount {
        Amount::new(Money::new(amount_minor, Currency::USD)).unwrap()
    }

    #[test]
    fn alone_above_the_amount_or_in_another_currency_has_no_effect() {
        let mut sum = RefundSum::default();
        assert_eq!(sum.add(usd(100), RefundKind::Refund, Some(usd(101))), Err("refund_exceeds_conversion"));
        assert_eq!(sum.add(usd(100), RefundKind::ChargebackReversed, Some(usd(101))), Err("refund_exceeds_conversion"));
        let euros = Amount::new(Money::new(1, "EUR".parse().unwrap())).unwrap();
        assert_eq!(sum.add(usd(100), RefundKind::Refund, Some(euros)), Err("currency_mismatch"));
        assert_eq!(sum, RefundSum::default());
    }

    #[test]
    fn a_conversion_worth_nothing_is_whole_by_refunds_without_an_amount_only() {
        let mut sum = RefundSum::default();
        sum.add(usd(0), RefundKind::Refund, Some(usd(0))).unwrap();
        assert!(!sum.totals(0).whole);
        sum.add(usd(0), RefundKind::Chargeback, None).unwrap();
        assert!(sum.totals(0).whole);
        sum.add(usd(0), RefundKind::ChargebackReversed, None).unwrap();
        assert!(!sum.totals(0).whole);
    }

    #[test]
    fn the_excess_is_listed_and_a_reversal_eats_it_first() {
        let mut sum = RefundSum::default();
        for kind in [RefundKind::Refund, RefundKind::Chargeback] {
            sum.add(usd(100), kind, Some(usd(70))).unwrap();
        }
        assert_eq!(sum.totals(100), Refunds { refunded_minor: 100, whole: true, excess_minor: 40 });
        sum.add(usd(100), RefundKind::ChargebackReversed, Some(usd(70))).unwrap();
        assert_eq!(sum.totals(100), Refunds { refunded_minor: 70, whole: false, excess_minor: 0 });
    }

    proptest! {
        #[test]
        fn parts_in_any_order_come_to_the_same(
            parts in prop::collection::vec((0_i64..=1_000, any::<bool>(), any::<bool>()), 0..12)
                .prop_flat_map(|parts| (Just(parts.clone()), Just(parts).prop_shuffle())),
        ) {
            let total = |parts: &[(i64, bool, bool)]| {
                let mut sum = RefundSum::default();
                for &(minor, won_back, whole) in parts {
                    let kind = if won_back { RefundKind::ChargebackReversed } else { RefundKind::Chargeback };
                    sum.add(usd(1_000), kind, (!whole).then(|| usd(minor))).unwrap();
                }
                sum.totals(1_000)
            };
            prop_assert_eq!(total(&parts.0), total(&parts.1));
        }
    }
}
