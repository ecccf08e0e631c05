//! Publishes and writes what came of a book: set-based, in sorted order.

use kernel::Result;
use platform::parking::{self, Parking};
use platform::{OnDuplicate, Tx, Value};

use crate::CONSUMER;
use crate::model::book::Book;
use crate::model::conversion::{Listed, Touch};
use crate::model::named::Named;

/// Stores the changes of a book. Answers how many facts wait.
pub(crate) fn store(tx: &mut Tx<'_>, book: &Book) -> Result<usize> {
    let changes = &book.changes;
    let first = if changes.outbox.is_empty() { 0 } else { tx.publish(&changes.outbox)? };
    let position = |index: usize| first + i64::try_from(index).unwrap_or(i64::MAX);
    store_conversions(tx, book, position)?;
    store_touches(tx, book)?;
    let refunds: Vec<[Value<'_>; 3]> = changes
        .refunds
        .iter()
        .map(|change| [change.state.as_str().into(), change.refusal.into(), (&change.id).into()])
        .collect();
    tx.update_many("refund", &["state", "refusal"], &["id"], &refunds)?;
    let waits: Vec<[Value<'_>; 2]> = changes.again_on.iter().map(|(key, id)| [key.into(), id.into()]).collect();
    tx.insert("conversion_wait", ["wait_key", "conversion_id"], &waits, OnDuplicate::Ignore)?;
    let requested: Vec<[Value<'_>; 3]> = changes
        .requested
        .iter()
        .map(|(kind, reference, index)| [(*kind).into(), reference.into(), position(*index).into()])
        .collect();
    tx.insert("requested_reference", ["kind", "reference", "position"], &requested, OnDuplicate::Ignore)?;
    let parked: Vec<Parking> = book
        .waiting()
        .map(|(key, waiting)| Parking { position: waiting.position, wait_key: key.clone(), reason: waiting.reason })
        .collect();
    if !parked.is_empty() {
        parking::park(tx, CONSUMER, &parked)?;
    }
    Ok(parked.len())
}

fn store_conversions(tx: &mut Tx<'_>, book: &Book, position: impl Fn(usize) -> i64) -> Result<()> {
    let changed = book.changes.conversions.iter();
    let rows: Vec<[Value<'_>; 14]> = changed
        .filter_map(|(id, decision)| {
            let standing = &book.conversion(*id)?.standing;
            Some([
                standing.state.as_str().into(),
                standing.reason.as_deref().into(),
                i64::from(standing.decision).into(),
                decision.map(&position).or(standing.decision_position).into(),
                standing.decided_from.into(),
                standing.decided_at.into(),
                standing.automatic_until.into(),
                standing.rule.map(|rule| rule.as_str()).into(),
                standing.campaign_id.as_ref().into(),
                standing.partner_id.as_ref().into(),
                i64::from(standing.first_purchase).into(),
                standing.refunds.sum_minor.into(),
                standing.refunds.whole.into(),
                id.into(),
            ])
        })
        .collect();
    let columns = [
        "state",
        "reason",
        "decision",
        "decision_position",
        "decided_from",
        "decided_at",
        "automatic_until",
        "decided_by",
        "campaign_id",
        "partner_id",
        "first_purchase",
        "refund_sum_minor",
        "whole_refunds",
    ];
    tx.update_many("conversion", &columns, &["id"], &rows)?;
    list_conversions(tx, book)
}

/// Keeps the customers' lists as the decisions are.
fn list_conversions(tx: &mut Tx<'_>, book: &Book) -> Result<()> {
    let decided = book.changes.conversions.iter().filter(|(_, decision)| decision.is_some());
    let mut listed: Vec<Listed> = decided.filter_map(|(id, _)| book.conversion(*id)?.listed()).collect();
    listed.sort_unstable_by_key(|listed| (listed.customer, listed.conversion_id));
    let rows: Vec<[Value<'_>; 7]> = listed
        .iter()
        .map(|listed| {
            [
                (&listed.customer).into(),
                (&listed.conversion_id).into(),
                listed.campaign_id.as_ref().into(),
                listed.occurred_at.into(),
                (&listed.source).into(),
                (&listed.external_id).into(),
                i64::from(listed.first_purchase).into(),
            ]
        })
        .collect();
    let columns =
        ["customer_key", "conversion_id", "campaign_id", "occurred_at", "source", "external_id", "first_purchase"];
    tx.insert("customer_conversion", columns, &rows, OnDuplicate::Replace { key: &["customer_key", "conversion_id"] })
}

fn store_touches(tx: &mut Tx<'_>, book: &Book) -> Result<()> {
    let touches: Vec<&Touch> = book.changes.touches.iter().filter_map(|id| book.touch(*id)).collect();
    let rows: Vec<[Value<'_>; 4]> = touches
        .iter()
        .map(|touch| {
            let campaign_id = if let Named::Id(id) = &touch.campaign { Some(id) } else { None };
            let partner_id = if let Named::Id(id) = &touch.partner { Some(id) } else { None };
            [touch.counted_from.into(), campaign_id.into(), partner_id.into(), (&touch.id).into()]
        })
        .collect();
    tx.update_many("touch", &["counted_from", "campaign_id", "partner_id"], &["id"], &rows)?;
    Ok(())
}
