//! This context's entries of the catalogue of problems.

use kernel::{Kind, Problem};

/// The natural key is taken by another body.
pub(crate) const FACT_DIFFERS: Problem = Problem::new(
    Kind::Conflict,
    "fact_differs",
    "A fact with this source and external id was recorded with another body.",
    "Facts are never changed: send a refund to correct an amount, or another external id for another fact.",
);
/// Further than a day after now.
pub(crate) const OCCURRED_IN_FUTURE: Problem = Problem::new(
    Kind::Unprocessable,
    "occurred_in_future",
    "The fact claims to have occurred more than a day from now.",
    "Send the instant at which it occurred; check the clock and the zone of the sender.",
);
/// A refund above its sale.
pub(crate) const REFUND_EXCEEDS_CONVERSION: Problem = Problem::new(
    Kind::Unprocessable,
    "refund_exceeds_conversion",
    "A refund alone is above the amount of its conversion.",
    "Send at most the amount of the conversion, or no amount for the whole.",
);
/// Lines that do not add up.
pub(crate) const LINES_DO_NOT_SUM: Problem = Problem::new(
    Kind::Unprocessable,
    "lines_do_not_sum",
    "The lines do not add up to the amount of the conversion.",
    "Send lines whose amounts add up to the amount exactly, or no lines.",
);
/// No such conversion.
pub(crate) const CONVERSION_NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "conversion_not_found",
    "There is no conversion with this id.",
    "List conversions with GET /v1/conversions, by source and external_id if you know those.",
);
/// The operator names somebody who cannot be credited.
pub(crate) const NOT_CREDITABLE: Problem = Problem::new(
    Kind::Unprocessable,
    "not_creditable",
    "The partner cannot be credited with the conversion in this campaign.",
    "Name a campaign that counts at the conversion's time, and a partner who was active and enrolled in it then.",
);

pub(crate) const ALL: &[&Problem] = &[
    &FACT_DIFFERS,
    &OCCURRED_IN_FUTURE,
    &REFUND_EXCEEDS_CONVERSION,
    &LINES_DO_NOT_SUM,
    &CONVERSION_NOT_FOUND,
    &NOT_CREDITABLE,
];
