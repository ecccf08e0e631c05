//! Recording what became of items: replies and callbacks, in any order and number, each with at most one effect.

use std::collections::BTreeMap;

use events::payments as told;
use events::payments::PayoutItemState as State;
use kernel::{Fault, NewEvent, PayoutId, PayoutItemId, Result, Timestamp};
use ledger::{Entry, EntryKind};
use platform::{Reader, Tx, Value};

use crate::create_payout::{entry, note};
use crate::model::{Outcome, delay, steps};
use crate::problems::{OUTCOME_CONTRADICTS, PAYOUT_ITEM_NOT_FOUND};
use crate::views::{ITEM, PayoutItemView, item_row};

/// Records what became of an item; what is known already changes nothing. Faults: `payout_item_not_found`,
/// `outcome_contradicts`.
pub fn record_outcome(tx: &mut Tx<'_>, item_id: PayoutItemId, outcome: Outcome) -> Result<()> {
    match record_outcomes(tx, &[(item_id, outcome)])?.pop() {
        Some(refused) => Err(refused),
        None => Ok(()),
    }
}

/// An item on its way into another state.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The item as it was before.
    pub(crate) item: PayoutItemView,
    /// Its next state.
    pub(crate) to: State,
    /// In the gateway's words.
    pub(crate) reason: Option<String>,
}

/// Records outcomes in their order; one that cannot be recorded is answered as a fault and holds up no other.
pub(crate) fn record_outcomes(tx: &mut Tx<'_>, outcomes: &[(PayoutItemId, Outcome)]) -> Result<Vec<Fault>> {
    let mut book = load(tx, outcomes)?;
    let mut refused = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    // Items without an outcome, which are asked again.
    let mut again: BTreeMap<PayoutItemId, (i64, Timestamp)> = BTreeMap::new();
    for (item_id, outcome) in outcomes {
        let Some(item) = book.get_mut(item_id) else {
            refused.push(Fault::new(&PAYOUT_ITEM_NOT_FOUND, format!("there is no payout item {item_id}")));
            continue;
        };
        let Some(steps) = steps(item.state, outcome) else {
            let detail = format!("item {item_id} is {}, and the gateway says {outcome:?}", item.state);
            refused.push(Fault::new(&OUTCOME_CONTRADICTS, detail));
            continue;
        };
        for &to in steps {
            changes.push(Change { item: item.clone(), to, reason: outcome.reason() });
            item.state = to;
        }
        if matches!(item.state, State::Submitted | State::Unknown) {
            again.insert(*item_id, (item.attempts + 1, tx.now().plus(delay(item.attempts))));
        } else {
            again.remove(item_id);
        }
    }
    let completed = completed(tx, &changes)?;
    let events = completed.iter().map(NewEvent::of).collect();
    apply(tx, &changes, events)?;
    let rows: Vec<[Value<'_>; 3]> =
        again.iter().map(|(id, (attempts, due_at))| [(*attempts).into(), (*due_at).into(), id.into()]).collect();
    tx.update_many("payout_item", &["attempts", "due_at"], &["id"], &rows)?;
    let now = tx.now();
    let state = told::PayoutState::Completed.as_str();
    let rows: Vec<[Value<'_>; 3]> =
        completed.iter().map(|done| [state.into(), now.into(), (&done.payout_id).into()]).collect();
    tx.update_many("payout", &["state", "updated_at"], &["id"], &rows)?;
    Ok(refused)
}

fn load(reader: &Reader<'_>, outcomes: &[(PayoutItemId, Outcome)]) -> Result<BTreeMap<PayoutItemId, PayoutItemView>> {
    let keys: Vec<[Value<'_>; 1]> = outcomes.iter().map(|(id, _)| [id.into()]).collect();
    let sql = format!("SELECT {ITEM} FROM payout_item WHERE id IN (?*) ORDER BY id");
    Ok(reader.query_in(&sql, &[], &keys, item_row)?.into_iter().map(|item| (item.id, item)).collect())
}

/// The batches whose last open item gets its outcome by `changes`.
fn completed(reader: &Reader<'_>, changes: &[Change]) -> Result<Vec<told::PayoutCompleted>> {
    let mut closing: BTreeMap<PayoutId, i64> = BTreeMap::new();
    for change in changes.iter().filter(|change| matches!(change.to, State::Settled | State::Failed)) {
        *closing.entry(change.item.payout_id).or_default() += 1;
    }
    let keys: Vec<[Value<'_>; 1]> = closing.keys().map(|id| [id.into()]).collect();
    let sql = "SELECT p.id, p.content_digest, CAST(COUNT(i.id) AS BIGINT) FROM payout p \
        JOIN payout_item i ON i.payout_id = p.id AND i.state IN ('pending', 'submitted', 'unknown') \
        WHERE p.state = 'submitted' AND p.id IN (?*) GROUP BY p.id, p.content_digest ORDER BY p.id";
    let open = reader.query_in(sql, &[], &keys, |row| {
        Ok((told::PayoutCompleted { payout_id: row.id(0)?, content_digest: row.text(1)?.to_owned() }, row.int(2)?))
    })?;
    let is_last = |(done, open): &(told::PayoutCompleted, i64)| closing.get(&done.payout_id) == Some(open);
    Ok(open.into_iter().filter(is_last).map(|(done, _)| done).collect())
}

/// Publishes and posts the changes, then `after`, and stores the items' new states.
pub(crate) fn apply(tx: &mut Tx<'_>, changes: &[Change], after: Vec<NewEvent>) -> Result<()> {
    if changes.is_empty() && after.is_empty() {
        return Ok(());
    }
    let entries: Vec<Option<Entry>> = changes.iter().map(posted).collect();
    let events: Vec<NewEvent> =
        changes.iter().zip(&entries).map(|(change, entry)| event(change, entry.as_ref())).chain(after).collect();
    let first = tx.publish(&events)?;
    let lines: Vec<(i64, i64, Entry)> =
        (first..).zip(entries).filter_map(|(position, entry)| Some((position, 0, entry?))).collect();
    ledger::post(tx, &lines)?;
    let now = tx.now();
    // An item that is submitted is due at once: whoever finds it so without an outcome asks the gateway first.
    let due_at = |to: State| matches!(to, State::Submitted | State::Unknown).then_some(now);
    // An item may change twice in one slice: the row is what the last change made of it.
    let last: BTreeMap<PayoutItemId, &Change> = changes.iter().map(|change| (change.item.id, change)).collect();
    let rows: Vec<[Value<'_>; 5]> = last
        .values()
        .map(|change| {
            [
                change.to.as_str().into(),
                change.reason.as_deref().into(),
                due_at(change.to).into(),
                now.into(),
                (&change.item.id).into(),
            ]
        })
        .collect();
    tx.update_many("payout_item", &["state", "reason", "due_at", "updated_at"], &["id"], &rows)?;
    Ok(())
}

fn posted(change: &Change) -> Option<Entry> {
    let kind = match change.to {
        State::Pending | State::Submitted | State::Unknown => return None,
        State::Settled => EntryKind::Settled,
        State::Failed | State::Cancelled => EntryKind::PayoutReleased,
        State::Returned => EntryKind::Returned,
    };
    Some(entry(&change.item, kind))
}

fn event(change: &Change, entry: Option<&Entry>) -> NewEvent {
    macro_rules! item_event {
        ($name:ident) => {
            NewEvent::of(&told::$name {
                payout_item_id: change.item.id,
                payout_id: change.item.payout_id,
                partner_id: change.item.partner_id,
                amount_minor: change.item.amount.amount_minor,
                currency: change.item.amount.currency,
                reason: change.reason.clone(),
                entries: entry.map(note).into_iter().collect(),
            })
        };
    }
    match change.to {
        State::Pending | State::Submitted => item_event!(ItemSubmitted),
        State::Unknown => item_event!(ItemUnknown),
        State::Settled => item_event!(ItemSettled),
        State::Failed => item_event!(ItemFailed),
        State::Returned => item_event!(ItemReturned),
        State::Cancelled => item_event!(ItemCancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step;
    use crate::testing::{commission, partner, world};
    use crate::{Callback, Payment, PaymentGateway};

    /// Takes every payment and says nothing about it.
    struct Silent;

    impl PaymentGateway for Silent {
        fn name(&self) -> &'static str {
            "sandbox"
        }
        fn pay(&self, _: &Payment, _: Timestamp) -> Outcome {
            Outcome::Unknown
        }
        fn ask(&self, _: PayoutItemId, _: Timestamp) -> Outcome {
            Outcome::Unknown
        }
        fn take_callbacks(&self, _: Timestamp) -> Vec<Callback> {
            Vec::new()
        }
        fn give_back(&self, _: Vec<Callback>) {}
    }

    #[test]
    fn outcomes_of_one_item_in_one_slice_are_taken_in_their_order() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        let payout = world.submitted();
        step(&world.db, &Silent).unwrap();
        let head = world.db.head();
        let id = payout.items[0].id;
        let said = [Outcome::InProgress, Outcome::Unknown, Outcome::Settled, Outcome::InProgress, Outcome::Settled];
        let slice = said.map(|outcome| (id, outcome));
        assert!(world.write("gateway", |tx| record_outcomes(tx, &slice)).unwrap().is_empty());
        assert_eq!(world.told_since(head), ["payments.item_settled.v1", "payments.payout_completed.v1"]);
        let item = world.payout(payout.id).items.remove(0);
        assert_eq!((item.state, item.due_at), (State::Settled, None), "nobody is asked about it again");
        assert_eq!(world.money(partner(1)), (0, 0, 10_00));
        world.assert_sound();
    }
}
