//! What can go wrong with partners, beyond what any context may meet.

use kernel::{Kind, Problem};

/// There is no such partner.
pub const PARTNER_NOT_FOUND: Problem =
    Problem::new(Kind::NotFound, "partner_not_found", "There is no such partner.", "Check the partner's id.");
/// Another partner of the kind has the e-mail address.
pub const EMAIL_TAKEN: Problem = Problem::new(
    Kind::Conflict,
    "email_taken",
    "Another partner of the same kind has this e-mail address.",
    "Find that partner and use it, or send another address.",
);
/// Another partner has the external reference.
pub const PARTNER_REFERENCE_TAKEN: Problem = Problem::new(
    Kind::Conflict,
    "partner_reference_taken",
    "Another partner has this external reference.",
    "Find the partner by the reference and use it, or send another reference.",
);

/// This crate's entries of the catalogue of problems.
pub const PROBLEMS: &[&Problem] = &[&PARTNER_NOT_FOUND, &EMAIL_TAKEN, &PARTNER_REFERENCE_TAKEN];
