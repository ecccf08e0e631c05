//! This context's entries of the catalogue of problems.

use kernel::{Kind, Problem};

/// No such batch.
pub(crate) const PAYOUT_NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "payout_not_found",
    "There is no payout with this id.",
    "List the payouts with GET /v1/payouts.",
);
/// No such item.
pub(crate) const PAYOUT_ITEM_NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "payout_item_not_found",
    "There is no payout item with this id.",
    "List the items with GET /v1/payouts/{id}/items.",
);
/// No such adjustment.
pub(crate) const ADJUSTMENT_NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "adjustment_not_found",
    "There is no adjustment with this id.",
    "List the adjustments with GET /v1/adjustments.",
);
/// The same person twice.
pub(crate) const SECOND_PERSON_NEEDED: Problem = Problem::new(
    Kind::Forbidden,
    "second_person_needed",
    "Somebody else than the one who asked for it must approve it.",
    "Approve it with another key.",
);
/// A cut-off that has not come yet.
pub(crate) const CUT_OFF_IN_FUTURE: Problem = Problem::new(
    Kind::Unprocessable,
    "cut_off_in_future",
    "The cut-off has not come yet.",
    "Send a cut-off that is not after now.",
);
/// A batch without items.
pub(crate) const NOTHING_TO_PAY: Problem = Problem::new(
    Kind::Unprocessable,
    "nothing_to_pay",
    "Nobody would be paid.",
    "Send the request with dry_run to see who is carried forward, and why.",
);
/// A commission that cannot be part of a batch.
pub(crate) const COMMISSION_NOT_PAYABLE: Problem = Problem::new(
    Kind::Unprocessable,
    "commission_not_payable",
    "A commission cannot be part of the payout.",
    "Name approved commissions in the payout's currency that no other payout has.",
);
/// A partner that nobody knows.
pub(crate) const PARTNER_UNKNOWN: Problem = Problem::new(
    Kind::Unprocessable,
    "partner_unknown",
    "There is no partner with this id.",
    "List the partners with GET /v1/partners.",
);
/// An adjustment of nothing, or of too much.
pub(crate) const ADJUSTMENT_AMOUNT: Problem = Problem::new(
    Kind::Unprocessable,
    "adjustment_amount",
    "An adjustment is neither zero nor above the limit.",
    "Send an amount other than zero, at most 10^15 minor units up or down.",
);
/// Nothing to write off.
pub(crate) const BALANCE_NOT_NEGATIVE: Problem = Problem::new(
    Kind::Conflict,
    "balance_not_negative",
    "Only a negative payable balance can be written off.",
    "Read the partner's balance; use an adjustment for anything else.",
);
/// The gateway says something else than before.
pub(crate) const OUTCOME_CONTRADICTS: Problem = Problem::new(
    Kind::Conflict,
    "outcome_contradicts",
    "The outcome contradicts what is recorded of the payout item.",
    "Compare the item with the gateway's own records; correct the balance with an adjustment.",
);

/// All of them.
pub const PROBLEMS: &[&Problem] = &[
    &PAYOUT_NOT_FOUND,
    &PAYOUT_ITEM_NOT_FOUND,
    &ADJUSTMENT_NOT_FOUND,
    &SECOND_PERSON_NEEDED,
    &CUT_OFF_IN_FUTURE,
    &NOTHING_TO_PAY,
    &COMMISSION_NOT_PAYABLE,
    &PARTNER_UNKNOWN,
    &ADJUSTMENT_AMOUNT,
    &BALANCE_NOT_NEGATIVE,
    &OUTCOME_CONTRADICTS,
];
