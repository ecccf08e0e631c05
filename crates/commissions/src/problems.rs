//! This context's entries of the catalogue of problems.

use kernel::{Kind, Problem};

pub(crate) const NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "commission_not_found",
    "There is no commission with this id.",
    "List commissions with GET /v1/commissions; a conversion's commission is in GET /v1/conversions/{id}.",
);

pub(crate) const PARTNER_SUSPENDED: Problem = Problem::new(
    Kind::Conflict,
    "partner_suspended",
    "The commission's partner is suspended, so it cannot be approved now.",
    "Reinstate or terminate the partner first; what was earned before stays owed.",
);

/// All of them.
pub const PROBLEMS: &[&Problem] = &[&NOT_FOUND, &PARTNER_SUSPENDED];
