//! What a batch pays (rules section 9): to whom, how much, and who is carried forward and why.

use std::collections::BTreeMap;

use kernel::{CommissionId, Currency, PartnerId, Timestamp, digest16, hex};

kernel::names! {
    /// Why a partner is not part of a batch.
    pub enum CarriedReason {
        /// Nothing is payable, or the balance is negative.
        NothingPayable = "nothing_payable",
        /// The partner is suspended: payouts wait.
        Suspended = "suspended",
        /// The amount is below the batch's minimum.
        BelowMinimum = "below_minimum",
        /// The batch has as many items as it may have; the next one pays.
        BatchFull = "batch_full",
    }
}

/// A batch has at most this many items, so that its event and its answer stay small.
const MOST_ITEMS: usize = 1_000;

/// What is known of a partner when a batch is made; minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Payable at the cut-off.
    pub(crate) payable_at_cut_off_minor: i64,
    /// Taken back since by refunds and chargebacks; what was restored does not lessen it.
    pub(crate) reversed_since_minor: i64,
    /// Put into payouts since, less what came out of them again.
    pub(crate) payouts_since_minor: i64,
    /// Payable now.
    pub(crate) payable_now_minor: i64,
    /// Whether the partner is suspended.
    pub(crate) suspended: bool,
    /// Listed even when there is nothing to carry, because somebody asked for this partner.
    pub(crate) named: bool,
    /// Only these commissions, and what is payable of them.
    pub(crate) commissions: Option<(Vec<CommissionId>, i64)>,
}

impl Standing {
    fn amount_minor(&self) -> i64 {
        let asked = match &self.commissions {
            Some((_, payable)) => *payable,
            None => self
                .payable_at_cut_off_minor
                .saturating_sub(self.reversed_since_minor)
                .saturating_sub(self.payouts_since_minor.max(0)),
        };
        asked.min(self.payable_now_minor)
    }
}

/// One partner's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The partner.
    pub(crate) partner_id: PartnerId,
    /// Minor units, above zero.
    pub(crate) amount_minor: i64,
    /// Only these commissions; empty: everything payable at the cut-off.
    pub(crate) commission_ids: Vec<CommissionId>,
}

/// What a batch would pay.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of partners.
    pub(crate) lines: Vec<Line>,
    /// Who is not part of it, why, and with what amount (minor units; zero or less when nothing is payable).
    pub(crate) carried: Vec<(PartnerId, CarriedReason, i64)>,
}

/// What a batch pays; `minimum_minor` per item.
pub(crate) fn plan(standings: BTreeMap<PartnerId, Standing>, minimum_minor: i64) -> Plan {
    let mut plan = Plan::default();
    for (partner_id, standing) in standings {
        let amount_minor = standing.amount_minor();
        let reason = if amount_minor <= 0 {
            if amount_minor == 0 && !standing.named {
                continue;
            }
            Some(CarriedReason::NothingPayable)
        } else if standing.suspended {
            Some(CarriedReason::Suspended)
        } else if amount_minor < minimum_minor {
            Some(CarriedReason::BelowMinimum)
        } else if plan.lines.len() >= MOST_ITEMS {
            Some(CarriedReason::BatchFull)
        } else {
            None
        };
        match reason {
            Some(reason) => plan.carried.push((partner_id, reason, amount_minor)),
            None => {
                let commission_ids = standing.commissions.map_or_else(Vec::new, |(ids, _)| ids);
                plan.lines.push(Line { partner_id, amount_minor, commission_ids });
            }
        }
    }
    plan
}

/// Digest over a batch's content, 32 hexadecimal digits; `lines` in the order of partners.
pub(crate) fn content_digest(currency: Currency, cut_off: Timestamp, lines: &[Line]) -> String {
    let texts: Vec<Vec<u8>> = lines
        .iter()
        .map(|line| {
            let mut bytes = line.partner_id.as_bytes().to_vec();
            bytes.extend(line.amount_minor.to_be_bytes());
            line.commission_ids.iter().for_each(|id| bytes.extend(id.as_bytes()));
            bytes
        })
        .collect();
    let cut_off = cut_off.as_micros().to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![currency.as_str().as_bytes(), &cut_off];
    parts.extend(texts.iter().map(Vec::as_slice));
    hex(&digest16(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partner(number: u8) -> PartnerId {
        PartnerId::from_bytes([number; 16])
    }

    fn standing(at_cut_off: i64, reversed: i64, payouts: i64, now: i64) -> Standing {
        Standing {
            payable_at_cut_off_minor: at_cut_off,
            reversed_since_minor: reversed,
            payouts_since_minor: payouts,
            payable_now_minor: now,
            ..Standing::default()
        }
    }

    #[test]
    fn an_amount_is_what_was_payable_less_later_reversals_and_never_more_than_now() {
        assert_eq!(standing(1_000, 0, 0, 1_500).amount_minor(), 1_000, "approved later is paid later");
        assert_eq!(standing(1_000, 300, 0, 1_500).amount_minor(), 700, "a clawback counts at once");
        assert_eq!(standing(1_000, 0, 0, 400).amount_minor(), 400, "never more than is payable now");
        assert_eq!(standing(1_000, 0, 1_000, 500).amount_minor(), 0, "another payout took it");
        assert_eq!(standing(1_000, 0, -200, 1_500).amount_minor(), 1_000, "what came back later is paid later");
        assert_eq!(standing(-50, 0, 0, 20).amount_minor(), -50, "a debt is carried");
        let only = Standing { commissions: Some((Vec::new(), 90)), ..standing(1_000, 0, 0, 60) };
        assert_eq!(only.amount_minor(), 60);
    }

    #[test]
    fn who_is_left_out_is_listed_with_the_reason() {
        let standings = BTreeMap::from([
            (partner(1), standing(500, 0, 0, 500)),
            (partner(2), standing(499, 0, 0, 499)),
            (partner(3), standing(-10, 0, 0, -10)),
            (partner(4), Standing { suspended: true, ..standing(900, 0, 0, 900) }),
            (partner(5), standing(0, 0, 0, 0)),
            (partner(6), Standing { named: true, ..standing(0, 0, 0, 0) }),
        ]);
        let plan = plan(standings, 500);
        assert_eq!(plan.lines, [Line { partner_id: partner(1), amount_minor: 500, commission_ids: Vec::new() }]);
        let carried = [
            (partner(2), CarriedReason::BelowMinimum, 499),
            (partner(3), CarriedReason::NothingPayable, -10),
            (partner(4), CarriedReason::Suspended, 900),
            (partner(6), CarriedReason::NothingPayable, 0),
        ];
        assert_eq!(plan.carried, carried);
    }

    #[test]
    fn a_batch_has_a_limit() {
        let id = |number: u16| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            PartnerId::from_bytes(bytes)
        };
        let plan = plan((0..1_003).map(|number| (id(number), standing(1, 0, 0, 1))).collect(), 0);
        assert_eq!(plan.lines.len(), 1_000);
        assert_eq!(plan.carried.iter().map(|c| c.1).collect::<Vec<_>>(), [CarriedReason::BatchFull; 3]);
    }

    #[test]
    fn the_digest_sees_every_part_of_the_content() {
        let line = |amount_minor, commission_ids| Line { partner_id: partner(1), amount_minor, commission_ids };
        let at = Timestamp::from_micros;
        let digests = [
            content_digest(Currency::USD, at(1), &[]),
            content_digest("EUR".parse().unwrap(), at(1), &[]),
            content_digest(Currency::USD, at(2), &[]),
            content_digest(Currency::USD, at(1), &[line(1, Vec::new())]),
            content_digest(Currency::USD, at(1), &[line(2, Vec::new())]),
            content_digest(Currency::USD, at(1), &[line(1, vec![CommissionId::from_bytes([1; 16])])]),
        ];
        assert_eq!(std::collections::BTreeSet::from(digests.clone()).len(), digests.len());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_is_payable_now(
            at_cut_off in -1_000_i64..1_000, reversed in 0_i64..500, payouts in -500_i64..500, now in -1_000_i64..1_000, minimum in 0_i64..200,
        ) {
            let made = plan(BTreeMap::from([(partner(1), standing(at_cut_off, reversed, payouts, now))]), minimum);
            for line in &made.lines {
                prop_assert!(line.amount_minor > 0 && line.amount_minor >= minimum);
                prop_assert!(line.amount_minor <= now && line.amount_minor <= at_cut_off - reversed);
            }
        }
    }
}
