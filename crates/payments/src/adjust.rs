//! Adjustments by hand and write-offs of a negative balance: one person asks, another one approves, then it is posted.

use events::commissions::EntryNote;
use events::partners::PartnerProfile;
use events::payments::{AdjustmentApproved, AdjustmentRequested, AdjustmentState};
use kernel::{AdjustmentId, Currency, Fault, Money, NewEvent, PartnerId, Reason, Result};
use ledger::{Entry, EntryKind};
use platform::{OnDuplicate, Reader, Tx, event_log, published};
use serde::Deserialize;

use crate::create_payout::note;
use crate::problems::{ADJUSTMENT_AMOUNT, BALANCE_NOT_NEGATIVE, PARTNER_UNKNOWN, SECOND_PERSON_NEEDED};
use crate::views::{self, AdjustmentView};

kernel::names! {
    /// What an adjustment is.
    pub enum AdjustmentKind {
        /// Adds to a partner's balance, or takes from it.
        Adjustment = "adjustment",
        /// Gives up a negative balance.
        WriteOff = "write_off",
    }
}

/// Asks for an adjustment of a partner's payable balance.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestAdjustment {
    /// The partner.
    pub partner_id: PartnerId,
    /// What is added to the balance; negative: taken. Not zero.
    pub amount: Money,
    /// Why.
    pub reason: Reason,
}

/// Asks for a negative payable balance to be given up.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOff {
    /// The partner.
    pub partner_id: PartnerId,
    /// The currency of the balance.
    pub currency: Currency,
    /// Why.
    pub reason: Reason,
}

/// So large that nobody owes it, so small that sums do not leave the range of i64.
const LARGEST_MINOR: u64 = 1_000_000_000_000_000;

impl RequestAdjustment {
    /// Stores the request; nothing is posted yet. Faults: `adjustment_amount`, `partner_unknown`.
    pub fn run(&self, tx: &mut Tx<'_>) -> Result<AdjustmentView> {
        if self.amount.amount_minor == 0 || self.amount.amount_minor.unsigned_abs() > LARGEST_MINOR {
            let detail = format!("{} is not between 1 and {LARGEST_MINOR} minor units up or down", self.amount);
            return Err(Fault::at(&ADJUSTMENT_AMOUNT, "/amount/amount_minor", detail));
        }
        request(tx, AdjustmentKind::Adjustment, self.partner_id, self.amount, &self.reason)
    }
}

impl WriteOff {
    /// Stores the request with the balance as it is now; nothing is posted yet. Faults: `balance_not_negative`,
    /// `partner_unknown`.
    pub fn run(&self, tx: &mut Tx<'_>) -> Result<AdjustmentView> {
        let amount = Money::new(owed_by(tx, self.partner_id, self.currency)?, self.currency);
        request(tx, AdjustmentKind::WriteOff, self.partner_id, amount, &self.reason)
    }
}

/// How much the partner's payable balance is below zero, minor units.
fn owed_by(reader: &Reader<'_>, partner_id: PartnerId, currency: Currency) -> Result<i64> {
    let balances = ledger::balances(reader, event_log::head(reader)?, Some(partner_id))?;
    let found = balances.into_iter().find(|found| found.currency == currency);
    let payable_minor = found.map_or(0, |found| found.balance.payable_minor);
    if payable_minor < 0 {
        return Ok(payable_minor.saturating_neg());
    }
    let detail = format!("the payable balance of {partner_id} is {}", Money::new(payable_minor, currency));
    Err(Fault::new(&BALANCE_NOT_NEGATIVE, detail))
}

fn request(
    tx: &mut Tx<'_>,
    kind: AdjustmentKind,
    partner_id: PartnerId,
    amount: Money,
    reason: &Reason,
) -> Result<AdjustmentView> {
    if published::get_one::<PartnerProfile>(tx, partner_id.as_bytes())?.is_none() {
        let detail = format!("there is no partner {partner_id}");
        return Err(Fault::at(&PARTNER_UNKNOWN, "/partner_id", detail));
    }
    let id: AdjustmentId = tx.new_id();
    let write_off = kind == AdjustmentKind::WriteOff;
    tx.publish(&[NewEvent::of(&AdjustmentRequested { adjustment_id: id, partner_id, amount, write_off })])?;
    let (now, actor) = (tx.now(), tx.actor().to_owned());
    let row = [
        (&id).into(),
        1.into(),
        AdjustmentState::Requested.as_str().into(),
        kind.as_str().into(),
        (&partner_id).into(),
        amount.amount_minor.into(),
        amount.currency.as_str().into(),
        reason.as_str().into(),
        (&actor).into(),
        now.into(),
    ];
    let columns = [
        "id",
        "version",
        "state",
        "kind",
        "partner_id",
        "amount_minor",
        "currency",
        "reason",
        "requested_by",
        "created_at",
    ];
    tx.insert("adjustment", columns, &[row], OnDuplicate::Fail)?;
    views::adjustment(tx, id)
}

/// Approves and posts an adjustment; a write-off gives up at most what is still negative. Faults:
/// `adjustment_not_found`, `second_person_needed`, `balance_not_negative`.
pub fn approve_adjustment(tx: &mut Tx<'_>, id: AdjustmentId) -> Result<AdjustmentView> {
    let found = views::adjustment(tx, id)?;
    if found.state == AdjustmentState::Approved {
        return Ok(found);
    }
    if found.requested_by == tx.actor() {
        let detail = format!("{} asked for it, so somebody else approves it", tx.actor());
        return Err(Fault::new(&SECOND_PERSON_NEEDED, detail));
    }
    let mut amount = found.amount;
    let kind = match found.kind {
        AdjustmentKind::WriteOff => {
            amount.amount_minor = amount.amount_minor.min(owed_by(tx, found.partner_id, amount.currency)?);
            EntryKind::WrittenOff
        }
        AdjustmentKind::Adjustment if amount.amount_minor > 0 => EntryKind::AdjustedUp,
        AdjustmentKind::Adjustment => EntryKind::AdjustedDown,
    };
    let entry = Entry {
        kind,
        partner_id: found.partner_id,
        campaign_id: None,
        gateway: None,
        source_id: *id.as_bytes(),
        amount_minor: amount.amount_minor.saturating_abs(),
        currency: amount.currency,
    };
    let entries: Vec<EntryNote> = vec![note(&entry)];
    let approved = AdjustmentApproved { adjustment_id: id, partner_id: found.partner_id, amount, entries };
    let position = tx.publish(&[NewEvent::of(&approved)])?;
    ledger::post(tx, &[(position, 0, entry)])?;
    let (now, actor) = (tx.now(), tx.actor().to_owned());
    tx.execute(
        "UPDATE adjustment SET state = ?, amount_minor = ?, approved_by = ?, approved_at = ?, version = version + 1 WHERE id = ?",
        &[
            AdjustmentState::Approved.as_str().into(),
            amount.amount_minor.into(),
            (&actor).into(),
            now.into(),
            (&id).into(),
        ],
    )?;
    views::adjustment(tx, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, commission, day, everything, partner, world};

    fn ask(world: &World, amount_minor: i64) -> Result<AdjustmentView> {
        let amount = Money::new(amount_minor, Currency::USD);
        let request = RequestAdjustment { partner_id: partner(1), amount, reason: Reason::new("a gift").unwrap() };
        world.write("asker", |tx| request.run(tx))
    }

    fn write_off(world: &World) -> Result<AdjustmentView> {
        let request =
            WriteOff { partner_id: partner(1), currency: Currency::USD, reason: Reason::new("gone").unwrap() };
        world.write("asker", |tx| request.run(tx))
    }

    fn approve(world: &World, actor: &str, id: AdjustmentId) -> Result<AdjustmentView> {
        world.write(actor, |tx| approve_adjustment(tx, id))
    }

    #[test]
    fn up_and_down_are_posted_by_a_second_person_only() {
        let world = world();
        for (amount_minor, payable_minor) in [(5_00, 5_00), (-7_01, -2_01)] {
            let asked = ask(&world, amount_minor).unwrap();
            let before = world.balance(partner(1));
            assert_eq!(approve(&world, "asker", asked.id).unwrap_err().code(), "second_person_needed");
            assert_eq!(world.balance(partner(1)), before, "nothing is posted before");
            let done = approve(&world, "other", asked.id).unwrap();
            assert_eq!((done.state, done.approved_by.as_deref()), (AdjustmentState::Approved, Some("other")));
            assert_eq!((done.amount.amount_minor, done.version), (amount_minor, 2));
            assert_eq!(world.balance(partner(1)).payable_minor, payable_minor);
            let head = world.db.head();
            assert_eq!(approve(&world, "third", asked.id).unwrap(), done);
            assert_eq!(world.db.head(), head);
        }
        assert_eq!(world.balance(partner(1)).adjusted_minor, -2_01);
        world.assert_sound();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let world = world();
        for amount_minor in [0, i64::MIN, i64::MAX, 1_000_000_000_000_001] {
            let fault = ask(&world, amount_minor).unwrap_err();
            let pointer = fault.errors()[0].pointer.as_str();
            assert_eq!((fault.code(), pointer), ("adjustment_amount", "/amount/amount_minor"));
        }
        let amount = Money::new(1, Currency::USD);
        let request = RequestAdjustment { partner_id: partner(77), amount, reason: Reason::new("x").unwrap() };
        assert_eq!(world.write("asker", |tx| request.run(tx)).unwrap_err().code(), "partner_unknown");
        let unknown = AdjustmentId::from_bytes([1; 16]);
        assert_eq!(approve(&world, "other", unknown).unwrap_err().code(), "adjustment_not_found");
        assert_eq!(write_off(&world).unwrap_err().code(), "balance_not_negative");
    }

    #[test]
    fn a_write_off_gives_up_at_most_what_is_still_negative() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.create(&everything(day(0))).unwrap();
        world.claw_back(partner(1), commission(1), 10_00, 0);
        let asked = write_off(&world).unwrap();
        assert_eq!((asked.kind, asked.amount.amount_minor), (AdjustmentKind::WriteOff, 10_00));
        world.earn(partner(1), commission(2), 4_00);
        assert_eq!(approve(&world, "asker", asked.id).unwrap_err().code(), "second_person_needed");
        let done = approve(&world, "other", asked.id).unwrap();
        assert_eq!(done.amount.amount_minor, 6_00);
        let balance = world.balance(partner(1));
        assert_eq!((balance.payable_minor, balance.written_off_minor, balance.adjusted_minor), (0, 6_00, 0));
        world.assert_sound();
    }

    #[test]
    fn a_write_off_of_a_balance_that_has_recovered_is_refused() {
        let world = world();
        let debt = ask(&world, -3_00).unwrap();
        approve(&world, "other", debt.id).unwrap();
        let asked = write_off(&world).unwrap();
        world.earn(partner(1), commission(1), 3_00);
        assert_eq!(approve(&world, "other", asked.id).unwrap_err().code(), "balance_not_negative");
        world.assert_sound();
    }

    #[test]
    fn adjustments_are_listed_by_partner_and_state() {
        let world = world();
        let ids = [1_00, 2_00, 3_00].map(|amount_minor| ask(&world, amount_minor).unwrap().id);
        approve(&world, "other", ids[1]).unwrap();
        let list = |filter: views::AdjustmentFilter, limit| {
            world.read(|reader| views::adjustments(reader, &filter, &platform::Page::first(limit)))
        };
        let waiting = views::AdjustmentFilter { state: Some(AdjustmentState::Requested), ..Default::default() };
        let found: Vec<AdjustmentId> = list(waiting, 10).items.into_iter().map(|view| view.id).collect();
        assert_eq!(found, [ids[0], ids[2]]);
        let first = list(views::AdjustmentFilter { partner_id: Some(partner(1)), ..Default::default() }, 2);
        assert_eq!((first.items.len(), first.next), (2, Some(*ids[1].as_bytes())));
        let other = views::AdjustmentFilter { partner_id: Some(partner(2)), ..Default::default() };
        assert_eq!(list(other, 10).items, []);
    }
}
