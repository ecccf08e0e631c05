//! What can go wrong with campaigns, beyond what any context may meet.

use kernel::{Kind, Problem};

/// There is no such campaign.
pub const CAMPAIGN_NOT_FOUND: Problem =
    Problem::new(Kind::NotFound, "campaign_not_found", "There is no such campaign.", "Check the campaign's id.");
/// There is no such enrolment in the campaign.
pub const ENROLLMENT_NOT_FOUND: Problem = Problem::new(
    Kind::NotFound,
    "enrollment_not_found",
    "There is no such enrolment in the campaign.",
    "Check both ids; the campaign's list of enrolments shows them.",
);
/// Another campaign has the external reference.
pub const CAMPAIGN_REFERENCE_TAKEN: Problem = Problem::new(
    Kind::Conflict,
    "campaign_reference_taken",
    "Another campaign has this external reference.",
    "Find the campaign by the reference and use it, or send another reference.",
);
/// A partner that is named in a campaign is not known.
pub const ENROLLED_PARTNER_UNKNOWN: Problem = Problem::new(
    Kind::Unprocessable,
    "enrolled_partner_unknown",
    "There is no partner with this id.",
    "Let the partner apply first; then send its id.",
);
/// The code credits somebody already.
pub const CODE_TAKEN: Problem = Problem::new(
    Kind::Conflict,
    "code_taken",
    "The code belongs to an enrolment already; codes are unique for ever.",
    "Choose another code.",
);
/// Two enrolments of a partner in a campaign overlap.
pub const ENROLLMENT_OVERLAPS: Problem = Problem::new(
    Kind::Conflict,
    "enrollment_overlaps",
    "The partner is enrolled in the campaign in this time already.",
    "Close the other enrolment first, or choose a time that does not touch it.",
);
/// A campaign cannot run without terms.
pub const TERMS_MISSING: Problem =
    Problem::new(Kind::Conflict, "terms_missing", "The campaign has no terms.", "Publish terms, then activate it.");
/// Terms would change the past.
pub const TERMS_BACKDATED: Problem = Problem::new(
    Kind::Unprocessable,
    "terms_backdated",
    "Terms of a campaign that is no draft cannot be valid from before now.",
    "Send a valid_from that is now or later.",
);
/// An end would change the past.
pub const END_BACKDATED: Problem = Problem::new(
    Kind::Unprocessable,
    "end_backdated",
    "An end that has passed cannot be set or moved, unless the campaign is a draft.",
    "Send an end that is now or later; for a campaign that is over, create another one.",
);
/// The campaign is over.
pub const CAMPAIGN_OVER: Problem = Problem::new(
    Kind::Conflict,
    "campaign_over",
    "The campaign is completed or cancelled.",
    "Use another campaign, or create one.",
);
/// Only a draft can be changed in this.
pub const CAMPAIGN_NOT_DRAFT: Problem = Problem::new(
    Kind::Conflict,
    "campaign_not_draft",
    "What decides attribution can only be changed while the campaign is a draft.",
    "Create another campaign with the values that you want.",
);

/// This crate's entries of the catalogue of problems.
pub const PROBLEMS: &[&Problem] = &[
    &CAMPAIGN_NOT_FOUND,
    &ENROLLMENT_NOT_FOUND,
    &CAMPAIGN_REFERENCE_TAKEN,
    &ENROLLED_PARTNER_UNKNOWN,
    &CODE_TAKEN,
    &ENROLLMENT_OVERLAPS,
    &TERMS_MISSING,
    &TERMS_BACKDATED,
    &END_BACKDATED,
    &CAMPAIGN_OVER,
    &CAMPAIGN_NOT_DRAFT,
];
