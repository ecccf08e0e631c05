//! Payments' part of `verify`: the history of batches, items and adjustments, told again from their events, is legal,
//! has its entries in the ledger, and is what the tables say.

use std::collections::BTreeMap;

use events::payments as told;
use events::payments::{AdjustmentState, PayoutItemState as ItemState, PayoutState};
use kernel::{
    AdjustmentId, CommissionId, Currency, Event, EventRecord, Money, PartnerId, PayoutId, PayoutItemId, Result,
    Timestamp,
};
use ledger::{EntryKind, PostedEntry};
use platform::{Check, Reader, event_log};

use crate::adjust::AdjustmentKind;
use crate::lifecycle::line;
use crate::model::{Line, PAYOUT, PAYOUT_ITEM, content_digest};
use crate::views;

/// How many positions of the log are looked at in one go.
const WINDOW: i64 = 16_384;
/// Differences that are told at most, per check.
const MOST_DIFFERENCES: usize = 10;

const TYPES: [&str; 13] = [
    told::PayoutCreated::TYPE,
    told::PayoutApproved::TYPE,
    told::PayoutSubmitted::TYPE,
    told::PayoutCompleted::TYPE,
    told::PayoutCancelled::TYPE,
    told::ItemSubmitted::TYPE,
    told::ItemUnknown::TYPE,
    told::ItemSettled::TYPE,
    told::ItemFailed::TYPE,
    told::ItemReturned::TYPE,
    told::ItemCancelled::TYPE,
    told::AdjustmentRequested::TYPE,
    told::AdjustmentApproved::TYPE,
];

/// Compares batches, items and adjustments with their events, their entries and their digests.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let mut history = History::default();
    let head = event_log::head(reader)?;
    let mut after = 0;
    while after < head {
        let up_to = head.min(after + WINDOW);
        let events = event_log::range(reader, after, up_to, &TYPES, usize::MAX)?;
        let positions: Vec<i64> = events.iter().map(|event| event.position).collect();
        let mut entries: BTreeMap<i64, Vec<PostedEntry>> = BTreeMap::new();
        for entry in ledger::entries_at(reader, &positions)? {
            entries.entry(entry.position).or_default().push(entry);
        }
        for event in &events {
            let expected = history.take(event)?;
            let posted = entries.get(&event.position).map_or(&[][..], Vec::as_slice);
            history.compare_entries(event, &expected, posted);
        }
        after = up_to;
    }
    history.compare_payouts(reader)?;
    history.compare_adjustments(reader)?;
    Ok(vec![
        history.transitions.into_check("payouts and their items follow their life cycles, and settle once"),
        history.entries.into_check("payments' events have their entries"),
        history.rows.into_check("payouts, items and adjustments are what their events tell, as frozen"),
    ])
}

#[derive(Debug, Default)]
struct Findings {
    checked: i64,
    differences: Vec<String>,
}

impl Findings {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds && self.differences.len() < MOST_DIFFERENCES {
            self.differences.push(otherwise());
        }
    }

    fn into_check(self, name: &'static str) -> Check {
        Check { name, checked: self.checked, differences: self.differences }
    }
}

/// A batch as its events tell it.
#[derive(Debug)]
struct Batch {
    state: PayoutState,
    currency: Currency,
    cut_off: Timestamp,
    content_digest: String,
}

/// An item as its events tell it.
#[derive(Debug)]
struct Item {
    payout_id: PayoutId,
    partner_id: PartnerId,
    amount: Money,
    commission_ids: Vec<CommissionId>,
    state: ItemState,
    settlements: u32,
}

/// An entry that an event must have.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    kinds: &'static [EntryKind],
    partner_id: PartnerId,
    source_id: [u8; 16],
    amount: Money,
}

#[derive(Debug, Default)]
struct History {
    payouts: BTreeMap<PayoutId, Batch>,
    items: BTreeMap<PayoutItemId, Item>,
    adjustments: BTreeMap<AdjustmentId, (AdjustmentState, Money)>,
    transitions: Findings,
    entries: Findings,
    rows: Findings,
}

impl History {
    /// Takes the next event in and answers the entries that it must have.
    fn take(&mut self, event: &EventRecord) -> Result<Vec<Expected>> {
        macro_rules! payout {
            ($name:ident, $to:ident) => {{
                let change: told::$name = event.decode()?;
                self.payout(event, change.payout_id, &change.content_digest, PayoutState::$to);
                Ok(Vec::new())
            }};
        }
        macro_rules! item {
            ($name:ident, $to:ident, $kinds:expr) => {{
                let change: told::$name = event.decode()?;
                self.item(event, change.payout_item_id, ItemState::$to);
                let kinds: &'static [EntryKind] = $kinds;
                let expected = Expected {
                    kinds,
                    partner_id: change.partner_id,
                    source_id: *change.payout_item_id.as_bytes(),
                    amount: Money::new(change.amount_minor, change.currency),
                };
                Ok(if kinds.is_empty() { Vec::new() } else { vec![expected] })
            }};
        }
        match event.event_type.as_str() {
            told::PayoutCreated::TYPE => self.created(&event.decode()?),
            told::PayoutApproved::TYPE => payout!(PayoutApproved, Approved),
            told::PayoutSubmitted::TYPE => payout!(PayoutSubmitted, Submitted),
            told::PayoutCompleted::TYPE => payout!(PayoutCompleted, Completed),
            told::PayoutCancelled::TYPE => payout!(PayoutCancelled, Cancelled),
            told::ItemSubmitted::TYPE => item!(ItemSubmitted, Submitted, &[]),
            told::ItemUnknown::TYPE => item!(ItemUnknown, Unknown, &[]),
            told::ItemSettled::TYPE => item!(ItemSettled, Settled, &[EntryKind::Settled]),
            told::ItemFailed::TYPE => item!(ItemFailed, Failed, &[EntryKind::PayoutReleased]),
            told::ItemReturned::TYPE => item!(ItemReturned, Returned, &[EntryKind::Returned]),
            told::ItemCancelled::TYPE => item!(ItemCancelled, Cancelled, &[EntryKind::PayoutReleased]),
            told::AdjustmentRequested::TYPE => {
                let change: told::AdjustmentRequested = event.decode()?;
                self.adjustments.insert(change.adjustment_id, (AdjustmentState::Requested, change.amount));
                Ok(Vec::new())
            }
            _ => self.adjusted(event, &event.decode()?),
        }
    }

    fn created(&mut self, created: &told::PayoutCreated) -> Result<Vec<Expected>> {
        let lines: Vec<Line> = created
            .items
            .iter()
            .map(|line| Line {
                partner_id: line.partner_id,
                amount_minor: line.amount_minor,
                commission_ids: line.commission_ids.clone(),
            })
            .collect();
        let digest = content_digest(created.currency, created.cut_off, &lines);
        self.rows.expect(digest == created.content_digest, || {
            format!("the event of payout {} has another content than its digest", created.payout_id)
        });
        let batch = Batch {
            state: PayoutState::Draft,
            currency: created.currency,
            cut_off: created.cut_off,
            content_digest: created.content_digest.clone(),
        };
        self.payouts.insert(created.payout_id, batch);
        let mut expected = Vec::with_capacity(lines.len());
        for (told, line) in created.items.iter().zip(lines) {
            let amount = Money::new(line.amount_minor, created.currency);
            expected.push(Expected {
                kinds: &[EntryKind::PayoutCreated],
                partner_id: line.partner_id,
                source_id: *told.payout_item_id.as_bytes(),
                amount,
            });
            let item = Item {
                payout_id: created.payout_id,
                partner_id: line.partner_id,
                amount,
                commission_ids: line.commission_ids,
                state: ItemState::Pending,
                settlements: 0,
            };
            self.items.insert(told.payout_item_id, item);
        }
        Ok(expected)
    }

    fn payout(&mut self, event: &EventRecord, id: PayoutId, digest: &str, to: PayoutState) {
        let Some(batch) = self.payouts.get_mut(&id) else {
            return self.transitions.expect(false, || format!("payout {id} is {to} before it is created"));
        };
        let from = std::mem::replace(&mut batch.state, to);
        self.transitions
            .expect(PAYOUT.allows(from, to), || format!("payout {id} goes from {from} to {to} at {}", event.position));
        self.rows.expect(batch.content_digest == digest, || {
            format!("payout {id} is {to} with another digest at {}", event.position)
        });
    }

    fn item(&mut self, event: &EventRecord, id: PayoutItemId, to: ItemState) {
        let Some(item) = self.items.get_mut(&id) else {
            return self.transitions.expect(false, || format!("item {id} is {to} before it is created"));
        };
        let from = std::mem::replace(&mut item.state, to);
        item.settlements += u32::from(to == ItemState::Settled);
        let legal = PAYOUT_ITEM.allows(from, to) && item.settlements <= 1;
        self.transitions.expect(legal, || {
            format!("item {id} goes from {from} to {to} at {}, settlement {}", event.position, item.settlements)
        });
    }

    fn adjusted(&mut self, event: &EventRecord, approved: &told::AdjustmentApproved) -> Result<Vec<Expected>> {
        let id = approved.adjustment_id;
        let before = self.adjustments.insert(id, (AdjustmentState::Approved, approved.amount));
        let waited = matches!(before, Some((AdjustmentState::Requested, _)));
        self.transitions
            .expect(waited, || format!("adjustment {id} is approved at {} from {before:?}", event.position));
        let kinds: &'static [EntryKind] = if approved.amount.amount_minor > 0 {
            &[EntryKind::AdjustedUp, EntryKind::WrittenOff]
        } else {
            &[EntryKind::AdjustedDown]
        };
        let amount = Money::new(approved.amount.amount_minor.saturating_abs(), approved.amount.currency);
        Ok(vec![Expected { kinds, partner_id: approved.partner_id, source_id: *id.as_bytes(), amount }])
    }

    fn compare_entries(&mut self, event: &EventRecord, expected: &[Expected], posted: &[PostedEntry]) {
        self.entries.expect(expected.len() == posted.len(), || {
            format!("{} at {} has {} entries, not {}", event.event_type, event.position, posted.len(), expected.len())
        });
        for (expected, posted) in expected.iter().zip(posted) {
            let entry = &posted.entry;
            let same = expected.kinds.contains(&entry.kind)
                && expected.partner_id == entry.partner_id
                && expected.source_id == entry.source_id
                && expected.amount == Money::new(entry.amount_minor, entry.currency);
            self.entries.expect(same, || {
                format!("{} at {}.{}: {entry:?} instead of {expected:?}", event.event_type, event.position, posted.line)
            });
        }
    }

    fn compare_payouts(&mut self, reader: &Reader<'_>) -> Result<()> {
        let ids = reader.query("SELECT id FROM payout ORDER BY id", &[], |row| row.id(0))?;
        self.rows.expect(ids.len() == self.payouts.len(), || {
            format!("{} payouts are stored, {} are told", ids.len(), self.payouts.len())
        });
        let mut stored_items = 0;
        for id in ids {
            let (payout, items) = (views::payout(reader, id)?, views::items_of(reader, id)?);
            stored_items += items.len();
            let lines: Vec<Line> = items.iter().map(line).collect();
            let digest = content_digest(payout.total.currency, payout.cut_off, &lines);
            let same = self.payouts.get(&id).is_some_and(|told| {
                (told.state, told.currency, told.cut_off) == (payout.state, payout.total.currency, payout.cut_off)
                    && told.content_digest == payout.content_digest
            });
            self.rows.expect(same && digest == payout.content_digest, || {
                format!("payout {id} ({}) is not what was told and frozen", payout.state)
            });
            let open = items
                .iter()
                .any(|item| matches!(item.state, ItemState::Pending | ItemState::Submitted | ItemState::Unknown));
            let fits = match payout.state {
                PayoutState::Submitted => open,
                PayoutState::Completed | PayoutState::Cancelled => !open,
                PayoutState::Draft | PayoutState::Approved => true,
            };
            self.rows.expect(fits, || format!("payout {id} is {}; items without an outcome: {open}", payout.state));
            for item in items {
                let same = self.items.get(&item.id).is_some_and(|told| {
                    (told.payout_id, told.partner_id, told.state) == (id, item.partner_id, item.state)
                        && (told.amount, &told.commission_ids) == (item.amount, &item.commission_ids)
                });
                self.rows.expect(same, || format!("item {} ({}) is not what was told", item.id, item.state));
            }
        }
        self.rows.expect(stored_items == self.items.len(), || {
            format!("{stored_items} items are stored, {} are told", self.items.len())
        });
        Ok(())
    }

    fn compare_adjustments(&mut self, reader: &Reader<'_>) -> Result<()> {
        let ids: Vec<AdjustmentId> = reader.query("SELECT id FROM adjustment ORDER BY id", &[], |row| row.id(0))?;
        self.rows.expect(ids.len() == self.adjustments.len(), || {
            format!("{} adjustments are stored, {} are told", ids.len(), self.adjustments.len())
        });
        for id in ids {
            let stored = views::adjustment(reader, id)?;
            let same = self.adjustments.get(&id) == Some(&(stored.state, stored.amount));
            let upward = stored.kind == AdjustmentKind::Adjustment || stored.amount.amount_minor > 0;
            self.rows.expect(same && upward, || format!("adjustment {id} ({}) is not what was told", stored.state));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kernel::{NewEvent, Reason};
    use platform::Tx;

    use super::*;
    use crate::create_payout::entry;
    use crate::gateways::sandbox::{Sandbox, SandboxRule, SandboxSettings};
    use crate::testing::{World, commission, day, everything, partner, world};
    use crate::{RequestAdjustment, approve_adjustment, cancel};

    /// A world in which everything has happened: settled, failed, returned, cancelled, adjusted.
    fn eventful() -> World {
        let world = world();
        (1..=4).for_each(|number| world.earn(partner(number), commission(number), 10_00));
        let rules = BTreeMap::from([(partner(2), SandboxRule::Fail), (partner(3), SandboxRule::ReturnAfterSettlement)]);
        world.submitted();
        world.work(&Sandbox::new(1, SandboxSettings { rules, ..SandboxSettings::default() }), 4);
        let id = world.create(&everything(day(0))).unwrap().id;
        world.write("maker", |tx| cancel(tx, id)).unwrap();
        world.create(&everything(day(0))).unwrap();
        let reason = Reason::new("a gift").unwrap();
        let amount = Money::new(-1_00, Currency::USD);
        let request = RequestAdjustment { partner_id: partner(1), amount, reason };
        let id = world.write("asker", |tx| request.run(tx)).unwrap().id;
        world.write("other", |tx| approve_adjustment(tx, id)).unwrap();
        world
    }

    fn differences(world: &World) -> [usize; 3] {
        let checks = world.read(check);
        [0, 1, 2].map(|index| checks[index].differences.len())
    }

    #[test]
    fn a_sound_history_has_no_differences_and_is_really_looked_at() {
        let world = eventful();
        world.assert_sound();
        let checked: Vec<i64> = world.read(check).iter().map(|check| check.checked).collect();
        // Items are submitted, have outcomes, come back, are cancelled; then the batches; then the adjustment.
        assert_eq!(checked[0], 4 + 4 + 1 + 2 + 4 + 1);
        assert!(checked.iter().all(|checked| *checked > 10), "{checked:?}");
    }

    #[test]
    fn every_planted_difference_is_found() {
        type Plant = fn(&mut Tx<'_>) -> Result<()>;
        let sql: [(&'static str, [usize; 3]); 6] = [
            ("UPDATE payout_item SET state = 'pending' WHERE state = 'failed'", [0, 0, 2]),
            ("UPDATE payout_item SET amount_minor = amount_minor + 1 WHERE state = 'settled'", [0, 0, 3]),
            ("UPDATE payout SET content_digest = 'x' WHERE state = 'completed'", [0, 0, 1]),
            ("UPDATE payout SET state = 'submitted' WHERE state = 'completed'", [0, 0, 2]),
            ("DELETE FROM payout_item WHERE state = 'settled'", [0, 0, 2]),
            ("UPDATE adjustment SET amount_minor = 100", [0, 0, 1]),
        ];
        for (statement, expected) in sql {
            let world = eventful();
            world.write("thief", |tx| tx.execute(statement, &[])).unwrap();
            assert_eq!(differences(&world), expected, "{statement}: {:#?}", world.read(check));
        }
        let plants: [(Plant, [usize; 3]); 3] = [
            // A second settlement, without an entry.
            (|tx| settle(tx).map(|_| ()), [1, 1, 0]),
            // A second settlement that pays twice.
            (
                |tx| {
                    let (position, item) = settle(tx)?;
                    ledger::post(tx, &[(position, 0, entry(&item, EntryKind::Settled))])
                },
                [1, 0, 0],
            ),
            // An entry too many at an event that has its own.
            (
                |tx| {
                    let head = event_log::head(tx)?;
                    let item = settled_item(tx)?;
                    ledger::post(tx, &[(head, 1, entry(&item, EntryKind::Returned))])
                },
                [0, 1, 0],
            ),
        ];
        for (plant, expected) in plants {
            let world = eventful();
            world.write("thief", plant).unwrap();
            assert_eq!(differences(&world), expected, "{:#?}", world.read(check));
        }
    }

    fn settled_item(reader: &Reader<'_>) -> Result<views::PayoutItemView> {
        let sql = format!("SELECT {} FROM payout_item WHERE state = 'settled' ORDER BY id", views::ITEM);
        Ok(reader.query_one(&sql, &[], views::item_row)?.unwrap())
    }

    fn settle(tx: &mut Tx<'_>) -> Result<(i64, views::PayoutItemView)> {
        let item = settled_item(tx)?;
        let event = told::ItemSettled {
            payout_item_id: item.id,
            payout_id: item.payout_id,
            partner_id: item.partner_id,
            amount_minor: item.amount.amount_minor,
            currency: item.amount.currency,
            reason: None,
            entries: Vec::new(),
        };
        Ok((tx.publish(&[NewEvent::of(&event)])?, item))
    }
}
