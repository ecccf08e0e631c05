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
