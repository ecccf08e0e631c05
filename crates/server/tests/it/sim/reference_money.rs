//! The reference model's amounts: R5 (commission), R6 (refunds), R7 (hold and approval). Nothing about who is credited.

use super::reference::{
    Campaign, Commission, CommissionState, Component, Conversion, Key, Partner, Rate, Refund, RefundKind, Terms,
};

/// What became of a refund, whatever its sale earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefundOutcome {
    /// Its sale is not there, or is itself parked.
    Parked,
    /// R6: alone above the sale's amount, or in another currency.
    Rejected,
    Recorded,
}

/// `amount * numerator / denominator`, half-up; nothing here is negative, so half-up is half away from zero as well.
pub(super) fn ratio_half_up(amount: i64, numerator: i64, denominator: i64) -> i64 {
    assert!(amount >= 0 && numerator >= 0 && denominator > 0, "a ratio of amounts that are not negative");
    let (amount, numerator, denominator) = (i128::from(amount), i128::from(numerator), i128::from(denominator));
    let product = amount * numerator;
    let rounded_down = product / denominator;
    let rounded = if 2 * (product % denominator) >= denominator { rounded_down + 1 } else { rounded_down };
    i64::try_from(rounded).expect("the model's amounts fit in i64")
}

/// R6: the natural key of the sale that a refund names; without a source it is the refund's own.
pub(super) fn sale_key(refund: &Refund) -> Key {
    let source = refund.conversion_source.as_ref().unwrap_or(&refund.key.0);
    (source.clone(), refund.conversion_external_id.clone())
}

/// R6. `sale` is the refund's sale if that is taken in.
pub(super) fn refund_outcome(refund: &Refund, sale: Option<&Conversion>) -> RefundOutcome {
    match (sale, &refund.amount) {
        (None, _) => RefundOutcome::Parked,
        (Some(sale), Some((amount_minor, currency)))
            if *amount_minor > sale.amount_minor || *currency != sale.currency =>
        {
            RefundOutcome::Rejected
        }
        (Some(_), _) => RefundOutcome::Recorded,
    }
}

/// R6: the sum of the refunds less what was won back. Not clamped: R is this between 0 and the amount, and what is above
/// the amount is the excess. Clamping only the end keeps the order out of it, and keeps a partial refund refunded when the
/// chargeback that came on top of it is won back.
pub(super) fn net_refunds(sale: &Conversion, refunds: &[&Refund]) -> i64 {
    recorded(sale, refunds)
        .map(|refund| {
            let amount_minor = refund.amount.as_ref().map_or(sale.amount_minor, |(amount_minor, _)| *amount_minor);
            sign(refund.kind) * amount_minor
        })
        .sum()
}

fn recorded<'r>(sale: &Conversion, refunds: &[&'r Refund]) -> impl Iterator<Item = &'r Refund> {
    refunds.iter().copied().filter(|refund| refund_outcome(refund, Some(sale)) == RefundOutcome::Recorded)
}

fn sign(kind: RefundKind) -> i64 {
    match kind {
        RefundKind::Refund | RefundKind::Chargeback | RefundKind::Cancellation => 1,
        RefundKind::ChargebackReversed => -1,
    }
}

/// R6: what is kept of the gross C. For an amount of zero no proportion exists: more whole refunds (those without an
/// amount) than whole reversals keep nothing, anything else keeps C.
fn kept(gross_minor: i64, sale: &Conversion, refunds: &[&Refund]) -> i64 {
    if sale.amount_minor == 0 {
        let whole = recorded(sale, refunds).filter(|refund| refund.amount.is_none());
        let net: i64 = whole.map(|refund| sign(refund.kind)).sum();
        return if net > 0 { 0 } else { gross_minor };
    }
    let refunded_minor = net_refunds(sale, refunds).clamp(0, sale.amount_minor);
    ratio_half_up(gross_minor, sale.amount_minor - refunded_minor, sale.amount_minor)
}

/// R5: the version in force is the latest `valid_from` that is not after the event time; of two with the same, the higher
/// version.
fn terms_in_force(campaign: &Campaign, t: i64) -> Option<&Terms> {
    campaign.terms.iter().filter(|terms| terms.valid_from <= t).max_by_key(|terms| (terms.valid_from, terms.version))
}

/// R5: a component counts when all of its conditions hold. The minimum is inclusive.
fn holds(component: &Component, conversion: &Conversion) -> bool {
    (component.kinds.is_empty() || component.kinds.contains(&conversion.kind))
        && (component.category.is_none() || component.category == conversion.category)
        && component.minimum_minor.is_none_or(|minimum_minor| minimum_minor <= conversion.amount_minor)
}

/// R5: percent rounded half-up (each percent component by itself), plus flat and bonus, then the cap. Also says whether a
/// bonus is in it.
fn gross(terms: &Terms, conversion: &Conversion, is_first_purchase: bool) -> (i64, bool) {
    let mut gross_minor = 0;
    let mut bonus_earned = false;
    for component in terms.components.iter().filter(|component| holds(component, conversion)) {
        match component.rate {
            Rate::PercentBasisPoints(basis_points) => {
                gross_minor += ratio_half_up(conversion.amount_minor, basis_points, 10_000);
            }
            Rate::FlatMinor(flat_minor) => gross_minor += flat_minor,
            Rate::FirstPurchaseBonusMinor(bonus_minor) if is_first_purchase => {
                gross_minor += bonus_minor;
                bonus_earned = true;
            }
            Rate::FirstPurchaseBonusMinor(_) => {}
        }
    }
    (gross_minor.min(terms.cap_minor.unwrap_or(i64::MAX)), bonus_earned)
}

/// The live commission of an attributed conversion after the last hold; none without terms in force or when zero (R5).
pub(super) fn commission(
    campaign: &Campaign,
    partner: &Partner,
    conversion: &Conversion,
    is_first_purchase: bool,
    refunds: &[&Refund],
) -> Option<Commission> {
    let terms = terms_in_force(campaign, conversion.occurred_at)?;
    let (gross_minor, bonus_earned) = gross(terms, conversion, is_first_purchase);
    if gross_minor == 0 {
        return None;
    }
    let hold_ends_at = conversion.recorded_at + terms.hold_micros;
    Some(Commission {
        partner: partner.id.clone(),
        currency: campaign.currency.clone(),
        terms_version: terms.version,
        gross_minor,
        kept_minor: kept(gross_minor, conversion, refunds),
        bonus_earned,
        hold_ends_at,
        state: state(terms, partner, conversion, gross_minor, refunds),
    })
}

/// R7: decided once, at the hold's end, on what is kept by then: up to the limit approved, above it in the queue. R3: while
/// the partner is suspended the decision waits. A refund recorded later changes the amount, never the decision.
fn state(
    terms: &Terms,
    partner: &Partner,
    conversion: &Conversion,
    gross_minor: i64,
    refunds: &[&Refund],
) -> CommissionState {
    let Some(decided_at) = approval_decided_at(partner, conversion.recorded_at + terms.hold_micros) else {
        return CommissionState::Pending;
    };
    let by_then: Vec<&Refund> = refunds.iter().copied().filter(|refund| refund.recorded_at < decided_at).collect();
    if kept(gross_minor, conversion, &by_then) <= terms.auto_approve_up_to_minor {
        CommissionState::Approved
    } else {
        CommissionState::Pending
    }
}

/// The hold's end, or the end of the suspension (by reinstatement or termination) that it falls into; none while the
/// partner stays suspended.
fn approval_decided_at(partner: &Partner, hold_ends_at: i64) -> Option<i64> {
    match partner.suspensions.iter().find(|suspension| suspension.contains(hold_ends_at)) {
        None => Some(hold_ends_at),
        Some(suspension) => suspension.to.or(partner.terminated_at.map(|at| at.max(hold_ends_at))),
    }
}
