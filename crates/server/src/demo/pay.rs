//! Approvals and payouts of the demo.

use commissions::CommissionFilter;
use kernel::{CommissionId, Currency, Result};
use payments::gateways::sandbox::{Sandbox, SandboxRule, SandboxSettings};
use payments::{CreatePayout, PayoutFilter, PayoutView};
use platform::{Db, Lane, Page};

use super::setup::{CONTROLLER, OPERATOR, World};
use crate::wiring;
use crate::worker::Worker;

/// The two payouts.
pub(super) struct Payouts {
    /// Pays everything; one item fails, one comes back.
    pub(super) first: PayoutView,
    /// After the chargebacks, as a dry run.
    pub(super) second: PayoutView,
}

/// The sandbox: the item of partner 5 fails, that of partner 9 is settled and comes back.
pub(super) fn gateway(world: &World) -> Sandbox {
    let rules = [(world.partner(5), SandboxRule::Fail), (world.partner(9), SandboxRule::ReturnAfterSettlement)];
    Sandbox::new(1, SandboxSettings { rules: rules.into(), ..SandboxSettings::default() })
}

/// An operator approves what waits in the queue.
pub(super) fn approve_queue(db: &Db) -> Result<()> {
    loop {
        let filter = CommissionFilter { queued: Some(true), ..CommissionFilter::default() };
        let queued = db.read(|reader| commissions::views::list(reader, &filter, &Page::first(500)))?;
        if queued.items.is_empty() {
            return Ok(());
        }
        let ids: Vec<CommissionId> = queued.items.iter().map(|commission| commission.id).collect();
        let outcomes = db.write("approve", Lane::Front, OPERATOR, |tx| commissions::approve_many(tx, &ids))?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)?;
    }
}

fn settings() -> payments::Settings {
    wiring::Settings::default().payments
}

fn request(db: &Db, dry_run: bool) -> CreatePayout {
    CreatePayout {
        currency: Currency::USD,
        cut_off: db.now(),
        partner_ids: None,
        commission_ids: None,
        minimum: None,
        dry_run,
    }
}

/// Creates, approves (by a second person) and submits the first payout, and waits for every item's outcome.
pub(super) fn first_payout(db: &Db, worker: &mut Worker) -> Result<PayoutView> {
    let existing =
        db.read(|reader| payments::views::list(reader, &PayoutFilter::default(), &Page::first(1)))?.items.pop();
    let payout = match existing {
        Some(payout) => payout,
        None => db.write("payout", Lane::Front, OPERATOR, |tx| request(db, false).run(tx, &settings()))?,
    };
    if payout.state == events::payments::PayoutState::Draft {
        db.write("payout", Lane::Front, CONTROLLER, |tx| payments::approve(tx, payout.id, &settings()))?;
    }
    if payout.state != events::payments::PayoutState::Completed {
        db.write("payout", Lane::Front, CONTROLLER, |tx| payments::submit(tx, payout.id))?;
    }
    worker.run_until_idle(db)?;
    db.read(|reader| payments::views::one(reader, payout.id))
}

/// What a second payout would pay.
pub(super) fn second_payout(db: &Db) -> Result<PayoutView> {
    db.write("payout", Lane::Front, OPERATOR, |tx| request(db, true).run(tx, &settings()))
}
