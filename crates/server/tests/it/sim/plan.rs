//! A plan: what a seed's world consists of, before anything runs. The reference model's world holds the facts and the
//! reference data; beside it stand the commands that bring the reference data about, and how each fact is told.
//!
//! Times are microseconds. Everything happens on a grid of half days, with a microsecond beside it now and then, so that
//! facts meet each other and every edge (of campaigns, windows, pauses, enrolments) often.

use super::reference::World;

pub(super) const DAY: i64 = 86_400_000_000;
pub(super) const HALF_DAY: i64 = DAY / 2;
/// 2026-02-26T00:00:00Z: the first command.
pub(super) const START: i64 = 1_772_323_200_000_000 - 3 * DAY;
/// The first delivery of a fact, after all commands of the set-up.
pub(super) const DELIVERY: i64 = START + 22 * HALF_DAY;
/// No fact but a late refund is delivered from here on. The shortest hold is longer than the time of delivery.
pub(super) const DELIVERED: i64 = DELIVERY + 3 * HALF_DAY;
/// Every hold has ended.
pub(super) const AFTER: i64 = START + 38 * HALF_DAY;

/// Who judges the world, and what may happen in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing but what the reference model speaks about.
    Pure,
    /// Commands, budgets, payouts, late facts: judged by invariants only.
    Commands,
    /// Twice the same facts, told in another order; also orders of several lines and one-off terms.
    Twin,
}

/// A command; partners, campaigns, enrolments and terms by their place in the world's lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Apply(usize),
    Partner(usize, partners::PartnerAction),
    Create(usize),
    Publish { campaign: usize, terms: usize },
    Campaign(usize, campaigns::CampaignAction),
    Enroll(usize),
}

/// A fact by its place in the world's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FactRef {
    Touch(usize),
    Conversion(usize),
    Refund(usize),
}

/// How a fact names a partner or a campaign.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming {
    Id,
    BareUuid,
    Reference,
}

/// How a fact is told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) fact: FactRef,
    pub(super) naming: Naming,
    /// A refund that comes when holds have begun to end.
    pub(super) late: bool,
    /// A refund's event time decides nothing, so the reference model has none.
    pub(super) refunded_at: i64,
    /// An order of several lines, beyond the reference model: category and amount.
    pub(super) lines: Vec<(&'static str, i64)>,
    /// One-off terms of this many basis points, beyond the reference model.
    pub(super) one_off_basis_points: Option<u32>,
}

/// What a seed's world consists of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    /// Everything that is known in the end; `recorded_at` is filled in when the product has answered.
    pub(super) world: World,
    /// By time, all before the first delivery.
    pub(super) setup: Vec<(i64, Command)>,
    /// Chains of commands that come between the deliveries; they reach back, so that their moment does not matter.
    pub(super) late: Vec<Vec<Command>>,
    /// By time, after the last hold.
    pub(super) after: Vec<(i64, Command)>,
    pub(super) facts: Vec<Told>,
    /// By campaign; only where commands are in the world.
    pub(super) budgets: Vec<Option<i64>>,
    /// Unknown partners and campaigns are created provisionally instead of parking the fact.
    pub(super) provision: bool,
}
