//! The worker between batches and a gateway. Intent is committed before a call, the call is made outside of any
//! transaction, its outcome is committed after it. Whatever is found without an outcome later (a crash, a time-out, a
//! payment in progress) is asked for; only a key that the gateway has never seen is sent again.

use events::payments::PayoutItemState;
use kernel::{Fault, PayoutItemId, Result, Timestamp};
use platform::{Db, Lane, Reader};

use crate::gateway::{Payment, PaymentGateway};
use crate::model::Outcome;
use crate::record_outcome::{Change, apply, record_outcomes};
use crate::views::{ITEM, PayoutItemView, item_row};

/// Items of one step at most, each way.
const MOST: i64 = 64;

/// Hands over what is pending, asks for what has no outcome, takes callbacks; answers how many of these there were, 0
/// when there is nothing to do now. A fault of the database is answered and loses nothing: the next step goes on.
pub fn step(db: &Db, gateway: &dyn PaymentGateway) -> Result<usize> {
    let now = db.now();
    // Read before the intent, so that what is handed over in this step is not asked for in it.
    let (due, pending) = db.read(|reader| Ok((due(reader, gateway.name(), now)?, pending(reader, gateway.name())?)))?;
    let sent = if pending.is_empty() { Vec::new() } else { commit_intent(db, gateway.name())? };
    let mut replies: Vec<(PayoutItemId, Outcome)> = Vec::with_capacity(due.len() + sent.len());
    for item in &due {
        let outcome = match gateway.ask(item.id, now) {
            Outcome::NeverSeen => gateway.pay(&payment(item), now),
            known => known,
        };
        replies.push((item.id, outcome));
    }
    replies.extend(sent.iter().map(|item| (item.id, gateway.pay(&payment(item), now))));
    let callbacks = gateway.take_callbacks(now);
    let told: Vec<(PayoutItemId, Outcome)> =
        callbacks.iter().map(|callback| (callback.item_id, callback.outcome.clone())).chain(replies).collect();
    if told.is_empty() {
        return Ok(0);
    }
    let recorded = db.write("payout_outcome", Lane::Back, "system", |tx| record_outcomes(tx, &told));
    match recorded {
        Ok(refused) => refused.iter().for_each(complain),
        Err(fault) => {
            gateway.give_back(callbacks);
            return Err(fault);
        }
    }
    Ok(told.len())
}

fn complain(fault: &Fault) {
    tracing::error!(%fault, "the gateway contradicts the records: a person must look");
}

fn payment(item: &PayoutItemView) -> Payment {
    Payment { item_id: item.id, partner_id: item.partner_id, amount: item.amount }
}

/// Marks pending items of submitted batches as handed over, before anybody is called.
fn commit_intent(db: &Db, gateway: &str) -> Result<Vec<PayoutItemView>> {
    db.write("payout_intent", Lane::Back, "system", |tx| {
        let items = pending(tx, gateway)?;
        let changes: Vec<Change> = items
            .iter()
            .map(|item| Change { item: item.clone(), to: PayoutItemState::Submitted, reason: None })
            .collect();
        apply(tx, &changes, Vec::new())?;
        Ok(items)
    })
}

fn pending(reader: &Reader<'_>, gateway: &str) -> Result<Vec<PayoutItemView>> {
    let sql = format!(
        "SELECT {ITEM} FROM payout_item WHERE state = 'pending' AND gateway = ? \
         AND payout_id IN (SELECT id FROM payout WHERE state = 'submitted') ORDER BY id LIMIT ?"
    );
    reader.query(&sql, &[gateway.into(), MOST.into()], item_row)
}

fn due(reader: &Reader<'_>, gateway: &str, now: Timestamp) -> Result<Vec<PayoutItemView>> {
    let sql = format!(
        "SELECT {ITEM} FROM payout_item WHERE state IN ('submitted', 'unknown') AND due_at <= ? AND gateway = ? \
         ORDER BY due_at, id LIMIT ?"
    );
    reader.query(&sql, &[now.into(), gateway.into(), MOST.into()], item_row)
}
