//! A batch's life between its creation and the gateway: approve, submit, cancel.

use events::payments::{PayoutApproved, PayoutCancelled, PayoutItemState, PayoutState, PayoutSubmitted};
use kernel::{Fault, Move, NewEvent, PayoutId, Result, problems};
use platform::Tx;

use crate::Settings;
use crate::model::{Line, PAYOUT, PayoutAction, content_digest};
use crate::problems::SECOND_PERSON_NEEDED;
use crate::record_outcome::{Change, apply};
use crate::views::{self, PayoutView};

/// Approves a draft; above the limit by another actor than its creator. Faults: `payout_not_found`,
/// `illegal_transition`, `second_person_needed`.
pub fn approve(tx: &mut Tx<'_>, id: PayoutId, settings: &Settings) -> Result<PayoutView> {
    let payout = views::one(tx, id)?;
    let Move::To(state) = PAYOUT.act(payout.state, PayoutAction::Approve)? else { return Ok(payout) };
    if payout.total.amount_minor > settings.approval_limit_minor && payout.created_by == tx.actor() {
        let detail =
            format!("{} is above the limit; {} made it, so somebody else approves it", payout.total, tx.actor());
        return Err(Fault::new(&SECOND_PERSON_NEEDED, detail));
    }
    let lines: Vec<Line> = payout.items.iter().map(line).collect();
    if content_digest(payout.total.currency, payout.cut_off, &lines) != payout.content_digest {
        return Err(Fault::internal(format!("the content of payout {id} is not what was frozen")));
    }
    tx.publish(&[NewEvent::of(&PayoutApproved { payout_id: id, content_digest: payout.content_digest })])?;
    let (now, actor) = (tx.now(), tx.actor().to_owned());
    tx.execute(
        "UPDATE payout SET state = ?, approved_by = ?, approved_at = ?, updated_at = ?, version = version + 1 WHERE id = ?",
        &[state.as_str().into(), (&actor).into(), now.into(), now.into(), (&id).into()],
    )?;
    views::one(tx, id)
}

/// An item as the digest sees it.
pub(crate) fn line(item: &views::PayoutItemView) -> Line {
    Line {
        partner_id: item.partner_id,
        amount_minor: item.amount.amount_minor,
        commission_ids: item.commission_ids.clone(),
    }
}

/// Hands an approved batch over to the worker. Faults: `payout_not_found`, `illegal_transition`.
pub fn submit(tx: &mut Tx<'_>, id: PayoutId) -> Result<PayoutView> {
    let payout = views::payout(tx, id)?;
    if let Move::To(state) = PAYOUT.act(payout.state, PayoutAction::Submit)? {
        tx.publish(&[NewEvent::of(&PayoutSubmitted { payout_id: id, content_digest: payout.content_digest })])?;
        set_state(tx, id, state)?;
    }
    views::one(tx, id)
}

/// Gives up a batch that has not been submitted: every item is payable again. Faults: `payout_not_found`,
/// `illegal_transition`.
pub fn cancel(tx: &mut Tx<'_>, id: PayoutId) -> Result<PayoutView> {
    let payout = views::one(tx, id)?;
    let Move::To(state) = PAYOUT.act(payout.state, PayoutAction::Cancel)? else { return Ok(payout) };
    let changes: Vec<Change> =
        payout.items.into_iter().map(|item| Change { item, to: PayoutItemState::Cancelled, reason: None }).collect();
    let cancelled = PayoutCancelled { payout_id: id, content_digest: payout.content_digest };
    apply(tx, &changes, vec![NewEvent::of(&cancelled)])?;
    set_state(tx, id, state)?;
    views::one(tx, id)
}

fn set_state(tx: &mut Tx<'_>, id: PayoutId, state: PayoutState) -> Result<()> {
    let now = tx.now();
    let changed = tx.execute(
        "UPDATE payout SET state = ?, updated_at = ?, version = version + 1 WHERE id = ?",
        &[state.as_str().into(), now.into(), (&id).into()],
    )?;
    if changed == 1 { Ok(()) } else { Err(Fault::new(&problems::NOT_FOUND, format!("payout {id} is gone"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SETTINGS, World, commission, day, everything, partner, world};

    fn draft(world: &World, amount_minor: i64) -> PayoutId {
        world.earn(partner(1), commission(1), amount_minor);
        world.create(&everything(day(0))).unwrap().id
    }

    #[test]
    fn above_the_limit_somebody_else_approves() {
        let world = world();
        let id = draft(&world, SETTINGS.approval_limit_minor + 1);
        let fault = world.write("maker", |tx| approve(tx, id, &SETTINGS)).unwrap_err();
        assert_eq!((fault.code(), fault.kind()), ("second_person_needed", kernel::Kind::Forbidden));
        assert_eq!(world.payout(id).state, PayoutState::Draft);
        let approved = world.write("checker", |tx| approve(tx, id, &SETTINGS)).unwrap();
        assert_eq!((approved.state, approved.approved_by.as_deref()), (PayoutState::Approved, Some("checker")));
        let head = world.db.head();
        let again = world.write("maker", |tx| approve(tx, id, &SETTINGS)).unwrap();
        assert_eq!((again, world.db.head()), (approved, head), "asking for what is so changes nothing");
    }

    #[test]
    fn up_to_the_limit_its_creator_may() {
        let world = world();
        let id = draft(&world, SETTINGS.approval_limit_minor);
        assert_eq!(world.write("maker", |tx| approve(tx, id, &SETTINGS)).unwrap().state, PayoutState::Approved);
        world.assert_sound();
    }

    #[test]
    fn content_that_changed_after_it_was_frozen_is_not_approved() {
        let world = world();
        let id = draft(&world, 10_00);
        world.write("thief", |tx| tx.execute("UPDATE payout_item SET amount_minor = 9999", &[])).unwrap();
        let fault = world.write("checker", |tx| approve(tx, id, &SETTINGS)).unwrap_err();
        assert_eq!(fault.code(), "internal");
        assert!(fault.cause().unwrap().contains("not what was frozen"), "{fault}");
    }

    #[test]
    fn cancelling_makes_everything_payable_again() {
        let world = world();
        world.earn(partner(2), commission(2), 7_77);
        let id = draft(&world, 10_00);
        world.write("checker", |tx| approve(tx, id, &SETTINGS)).unwrap();
        assert_eq!(world.money(partner(1)), (0, 10_00, 0));
        let head = world.db.head();
        let cancelled = world.write("maker", |tx| cancel(tx, id)).unwrap();
        assert_eq!((cancelled.state, cancelled.version), (PayoutState::Cancelled, 3));
        assert_eq!(world.states(id), ["cancelled", "cancelled"]);
        assert_eq!((world.money(partner(1)), world.money(partner(2))), ((10_00, 0, 0), (7_77, 0, 0)));
        let told = ["payments.item_cancelled.v1", "payments.item_cancelled.v1", "payments.payout_cancelled.v1"];
        assert_eq!(world.told_since(head), told);
        let head = world.db.head();
        assert_eq!(world.write("maker", |tx| cancel(tx, id)).unwrap(), cancelled);
        assert_eq!(world.db.head(), head);
        world.assert_sound();
    }

    #[test]
    fn illegal_moves_are_refused_and_name_the_legal_ones() {
        let world = world();
        let id = draft(&world, 10_00);
        let fault = world.write("maker", |tx| submit(tx, id)).unwrap_err();
        assert_eq!(fault.code(), "illegal_transition");
        assert!(fault.detail().ends_with("allowed: approve, cancel"), "{}", fault.detail());
        world.write("checker", |tx| approve(tx, id, &SETTINGS)).unwrap();
        world.write("maker", |tx| submit(tx, id)).unwrap();
        assert_eq!(world.write("maker", |tx| cancel(tx, id)).unwrap_err().code(), "illegal_transition");
        assert_eq!(world.money(partner(1)), (0, 10_00, 0));
        let unknown = PayoutId::from_bytes([9; 16]);
        assert_eq!(world.write("maker", |tx| submit(tx, unknown)).unwrap_err().code(), "payout_not_found");
        world.assert_sound();
    }
}
