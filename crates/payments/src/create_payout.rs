//! Making a batch: who is paid how much, frozen by a digest, or only shown (`dry_run`).

use std::collections::{BTreeMap, BTreeSet};

use events::commissions::{CommissionState, EntryNote};
use events::partners::{PartnerProfile, PartnerState};
use events::payments::{PayoutCreated, PayoutItemState, PayoutLine, PayoutState};
use kernel::{
    Amount, CommissionId, Currency, EventRecord, Fault, Money, NewEvent, PartnerId, PayoutId, Result, Timestamp,
    problems,
};
use ledger::{Entry, EntryKind};
use platform::{OnDuplicate, Reader, Tx, Value, event_log, published};
use serde::Deserialize;

use crate::Settings;
use crate::model::{Line, Plan, Standing, content_digest, payable_commission, plan};
use crate::problems as own;
use crate::views::{CarriedView, ITEM, PayoutItemView, PayoutView, item_row};

/// Makes a payout batch, or shows what it would be.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePayout {
    /// The currency; a batch has one.
    pub currency: Currency,
    /// What is payable at this instant is paid, less what was taken back since. Not after now.
    pub cut_off: Timestamp,
    /// Only these partners, at most 1,000; absent: all.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 1000)]
    pub partner_ids: Option<Vec<PartnerId>>,
    /// Only these approved commissions, at most 1,000: what is payable of them now, never more than the partner's
    /// balance; absent: everything that is payable at the cut-off.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 1000)]
    pub commission_ids: Option<Vec<CommissionId>>,
    /// Smaller amounts are carried forward.
    #[serde(default)]
    pub minimum: Option<Amount>,
    /// Only show what the batch would be: nothing is stored or told.
    #[serde(default)]
    pub dry_run: bool,
}

/// The named partners or commissions at most.
const MOST_NAMED: usize = 1_000;

impl CreatePayout {
    /// Makes the batch: a draft, frozen, its amounts moved from payable to in payout. Faults: `cut_off_in_future`,
    /// `currency_mismatch`, `partner_unknown`, `commission_not_payable`, `nothing_to_pay`, `invalid`.
    pub fn run(&self, tx: &mut Tx<'_>, settings: &Settings) -> Result<PayoutView> {
        self.validate(tx.now())?;
        let cut_off_position = event_log::position_at(tx, self.cut_off)?;
        let minimum_minor = self.minimum.map_or(0, Amount::minor);
        let plan = plan(self.standings(tx, cut_off_position)?, minimum_minor);
        let view = self.view(tx, settings, cut_off_position, plan)?;
        if self.dry_run {
            return Ok(view);
        }
        if view.items.is_empty() {
            let detail = format!("nobody would be paid; {} partners are carried forward", view.carried.len());
            return Err(Fault::new(&own::NOTHING_TO_PAY, detail));
        }
        publish_and_post(tx, &view)?;
        store(tx, &view)?;
        Ok(view)
    }

    fn validate(&self, now: Timestamp) -> Result<()> {
        if self.cut_off > now {
            let detail = format!("{} is after now, {now}", self.cut_off);
            return Err(Fault::at(&own::CUT_OFF_IN_FUTURE, "/cut_off", detail));
        }
        if let Some(minimum) = self.minimum.filter(|minimum| minimum.currency() != self.currency) {
            let detail = format!("the minimum is in {}, the payout in {}", minimum.currency(), self.currency);
            return Err(Fault::at(&problems::CURRENCY_MISMATCH, "/minimum/currency", detail));
        }
        let counts = [
            ("/partner_ids", self.partner_ids.as_ref().map(Vec::len)),
            ("/commission_ids", self.commission_ids.as_ref().map(Vec::len)),
        ];
        for (pointer, count) in counts {
            if count.is_some_and(|count| count == 0 || count > MOST_NAMED) {
                return Err(Fault::at(&problems::INVALID, pointer, "name 1 to 1,000, or leave it out"));
            }
        }
        if self.partner_ids.is_some() && self.commission_ids.is_some() {
            return Err(Fault::at(&problems::INVALID, "/commission_ids", "name partners or commissions, not both"));
        }
        Ok(())
    }

    fn standings(&self, tx: &Tx<'_>, cut_off_position: i64) -> Result<BTreeMap<PartnerId, Standing>> {
        let mut standings = balances(tx, self.currency, cut_off_position)?;
        if let Some(named) = &self.partner_ids {
            let named: BTreeSet<PartnerId> = named.iter().copied().collect();
            standings.retain(|partner_id, _| named.contains(partner_id));
            for partner_id in named {
                standings.entry(partner_id).or_default().named = true;
            }
        }
        if let Some(ids) = &self.commission_ids {
            let mut payable = self.commissions(tx, ids)?;
            standings.retain(|partner_id, _| payable.contains_key(partner_id));
            for (partner_id, standing) in &mut standings {
                standing.named = true;
                standing.commissions = payable.remove(partner_id);
            }
        }
        let keys: Vec<&[u8]> = standings.keys().map(|id| id.as_bytes().as_slice()).collect();
        let profiles = published::get::<PartnerProfile>(tx, &keys)?;
        for (partner_id, standing) in &mut standings {
            let profile = profiles.get(partner_id.as_bytes().as_slice());
            standing.suspended = profile.is_some_and(|profile| profile.state == PartnerState::Suspended);
            if profile.is_none() && self.partner_ids.is_some() {
                let named = self.partner_ids.iter().flatten().position(|named| named == partner_id).unwrap_or(0);
                let detail = format!("there is no partner {partner_id}");
                return Err(Fault::at(&own::PARTNER_UNKNOWN, format!("/partner_ids/{named}"), detail));
            }
        }
        Ok(standings)
    }

    /// The named commissions by partner, and what is payable of them, as their histories tell it.
    fn commissions(&self, tx: &Tx<'_>, ids: &[CommissionId]) -> Result<BTreeMap<PartnerId, (Vec<CommissionId>, i64)>> {
        let taken = in_open_items(tx)?;
        let histories = histories(tx, ids)?;
        let mut seen = BTreeSet::new();
        let mut payable: BTreeMap<PartnerId, (Vec<CommissionId>, i64)> = BTreeMap::new();
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| seen.insert(**id)) {
            let refuse = |why: String| {
                Fault::at(&own::COMMISSION_NOT_PAYABLE, format!("/commission_ids/{index}"), format!("{id} {why}"))
            };
            let history = histories.get(&id.to_string()).map_or(&[][..], Vec::as_slice);
            let found = payable_commission(history)?.ok_or_else(|| refuse("does not exist".to_owned()))?;
            if found.state != CommissionState::Approved {
                return Err(refuse(format!("is {}", found.state)));
            }
            if found.currency != self.currency {
                return Err(refuse(format!("is in {}", found.currency)));
            }
            if taken.contains(id) {
                return Err(refuse("is part of another payout".to_owned()));
            }
            let sum = payable.entry(found.partner_id).or_default();
            sum.0.push(*id);
            sum.1 = sum.1.checked_add(found.kept_minor).ok_or_else(overflow)?;
        }
        Ok(payable)
    }

    fn view(&self, tx: &Tx<'_>, settings: &Settings, cut_off_position: i64, plan: Plan) -> Result<PayoutView> {
        let id: PayoutId = tx.new_id();
        let now = tx.now();
        let total = plan.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.amount_minor));
        let money = |amount_minor| Money::new(amount_minor, self.currency);
        let content_digest = content_digest(self.currency, self.cut_off, &plan.lines);
        let item = |line: Line| PayoutItemView {
            id: tx.new_id(),
            payout_id: id,
            partner_id: line.partner_id,
            amount: money(line.amount_minor),
            state: PayoutItemState::Pending,
            gateway: settings.gateway.to_owned(),
            commission_ids: line.commission_ids,
            attempts: 0,
            due_at: None,
            reason: None,
            created_at: now,
            updated_at: now,
        };
        let carried =
            |(partner_id, reason, amount_minor)| CarriedView { partner_id, reason, amount: money(amount_minor) };
        let items: Vec<PayoutItemView> = plan.lines.into_iter().map(item).collect();
        Ok(PayoutView {
            id,
            dry_run: self.dry_run,
            state: PayoutState::Draft,
            cut_off: self.cut_off,
            cut_off_position,
            total: money(total.ok_or_else(overflow)?),
            item_count: i64::try_from(items.len()).unwrap_or(i64::MAX),
            gateway: settings.gateway.to_owned(),
            content_digest,
            created_by: tx.actor().to_owned(),
            created_at: now,
            approved_by: None,
            approved_at: None,
            updated_at: now,
            version: 1,
            items,
            carried: plan.carried.into_iter().map(carried).collect(),
        })
    }
}

/// The events of each of these commissions, in order.
fn histories(reader: &Reader<'_>, ids: &[CommissionId]) -> Result<BTreeMap<String, Vec<EventRecord>>> {
    let subjects: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let mut histories: BTreeMap<String, Vec<EventRecord>> = BTreeMap::new();
    for event in event_log::of_subjects(reader, &subjects, &[])? {
        histories.entry(event.subject.clone()).or_default().push(event);
    }
    Ok(histories)
}

fn overflow() -> Fault {
    Fault::new(&problems::AMOUNT_OVERFLOW, "the sum of the payout leaves the range of 64-bit minor units")
}

/// What the ledger knows of every partner with postings in `currency`.
fn balances(tx: &Tx<'_>, currency: Currency, cut_off_position: i64) -> Result<BTreeMap<PartnerId, Standing>> {
    let head = event_log::head(tx)?;
    let mut standings: BTreeMap<PartnerId, Standing> = BTreeMap::new();
    for found in ledger::balances(tx, head, None)?.into_iter().filter(|found| found.currency == currency) {
        standings.entry(found.partner_id).or_default().payable_now_minor = found.balance.payable_minor;
    }
    for found in ledger::balances(tx, cut_off_position, None)?.into_iter().filter(|found| found.currency == currency) {
        standings.entry(found.partner_id).or_default().payable_at_cut_off_minor = found.balance.payable_minor;
    }
    if cut_off_position == head {
        return Ok(standings);
    }
    for (position, sign) in [(head, 1), (cut_off_position, -1)] {
        for ((partner_id, of, kind, _, _), (amount_minor, _)) in ledger::totals(tx, position, None)? {
            if of != currency.as_str() {
                continue;
            }
            let standing = standings.entry(partner_id).or_default();
            let since_minor = sign * amount_minor;
            match kind {
                kind if kind.is_clawback() => standing.reversed_since_minor += since_minor,
                EntryKind::PayoutCreated => standing.payouts_since_minor += since_minor,
                EntryKind::PayoutReleased | EntryKind::Returned => standing.payouts_since_minor -= since_minor,
                _ => {}
            }
        }
    }
    Ok(standings)
}

/// The commissions that were named for items without an outcome: their own events may not tell it yet.
fn in_open_items(reader: &Reader<'_>) -> Result<BTreeSet<CommissionId>> {
    let sql = format!(
        "SELECT {ITEM} FROM payout_item WHERE state IN ('pending', 'submitted', 'unknown') AND commission_ids <> '[]' ORDER BY id"
    );
    let items = reader.query(&sql, &[], item_row)?;
    Ok(items.into_iter().flat_map(|item| item.commission_ids).collect())
}

fn publish_and_post(tx: &mut Tx<'_>, view: &PayoutView) -> Result<()> {
    let entries: Vec<Entry> = view.items.iter().map(|item| entry(item, EntryKind::PayoutCreated)).collect();
    let items = view.items.iter().zip(&entries).map(|(item, entry)| PayoutLine {
        payout_item_id: item.id,
        partner_id: item.partner_id,
        amount_minor: item.amount.amount_minor,
        commission_ids: item.commission_ids.clone(),
        entries: vec![note(entry)],
    });
    let created = PayoutCreated {
        payout_id: view.id,
        currency: view.total.currency,
        cut_off: view.cut_off,
        cut_off_position: view.cut_off_position,
        content_digest: view.content_digest.clone(),
        items: items.collect(),
    };
    let position = tx.publish(&[NewEvent::of(&created)])?;
    let lines: Vec<(i64, i64, Entry)> = (0..).zip(entries).map(|(line, entry)| (position, line, entry)).collect();
    ledger::post(tx, &lines)
}

/// The entry of `kind` that an item makes.
pub(crate) fn entry(item: &PayoutItemView, kind: EntryKind) -> Entry {
    Entry {
        kind,
        partner_id: item.partner_id,
        campaign_id: None,
        gateway: matches!(kind, EntryKind::Settled | EntryKind::Returned).then(|| item.gateway.clone()),
        source_id: *item.id.as_bytes(),
        amount_minor: item.amount.amount_minor,
        currency: item.amount.currency,
    }
}

/// The entry as its event tells it.
pub(crate) fn note(entry: &Entry) -> EntryNote {
    EntryNote { kind: entry.kind.to_string(), amount_minor: entry.amount_minor, digest: entry.digest() }
}

fn store(tx: &mut Tx<'_>, view: &PayoutView) -> Result<()> {
    let carried = serde_json::to_string(&view.carried).map_err(Fault::internal)?;
    let row = [
        (&view.id).into(),
        view.version.into(),
        view.state.as_str().into(),
        view.total.currency.as_str().into(),
        view.cut_off.into(),
        view.cut_off_position.into(),
        (&view.gateway).into(),
        view.item_count.into(),
        view.total.amount_minor.into(),
        (&view.content_digest).into(),
        (&carried).into(),
        (&view.created_by).into(),
        view.created_at.into(),
        view.updated_at.into(),
    ];
    let columns = [
        "id",
        "version",
        "state",
        "currency",
        "cut_off",
        "cut_off_position",
        "gateway",
        "item_count",
        "total_minor",
        "content_digest",
        "carried",
        "created_by",
        "created_at",
        "updated_at",
    ];
    tx.insert("payout", columns, &[row], OnDuplicate::Fail)?;
    store_items(tx, &view.items)
}

fn store_items(tx: &mut Tx<'_>, items: &[PayoutItemView]) -> Result<()> {
    let commissions: Vec<String> = items
        .iter()
        .map(|item| serde_json::to_string(&item.commission_ids).map_err(Fault::internal))
        .collect::<Result<_>>()?;
    let rows: Vec<[Value<'_>; 11]> = items
        .iter()
        .zip(&commissions)
        .map(|(item, commission_ids)| {
            [
                (&item.id).into(),
                (&item.payout_id).into(),
                (&item.partner_id).into(),
                item.amount.amount_minor.into(),
                item.amount.currency.as_str().into(),
                (&item.gateway).into(),
                item.state.as_str().into(),
                commission_ids.into(),
                item.attempts.into(),
                item.created_at.into(),
                item.updated_at.into(),
            ]
        })
        .collect();
    let columns = [
        "id",
        "payout_id",
        "partner_id",
        "amount_minor",
        "currency",
        "gateway",
        "state",
        "commission_ids",
        "attempts",
        "created_at",
        "updated_at",
    ];
    tx.insert("payout_item", columns, &rows, OnDuplicate::Fail)
}

#[cfg(test)]
mod tests {
    use kernel::Currency;

    use super::*;
    use crate::model::CarriedReason;
    use crate::testing::{SETTINGS, commission, day, everything, partner, world};
    use crate::{approve, submit, views};

    fn amounts(view: &PayoutView) -> Vec<(PartnerId, i64)> {
        view.items.iter().map(|item| (item.partner_id, item.amount.amount_minor)).collect()
    }

    #[test]
    fn an_item_is_what_was_payable_at_the_cut_off_plus_all_later_reversals() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.earn(partner(2), commission(2), 20_00);
        world.earn(partner(3), commission(3), 30_00);
        world.set_time(day(2));
        world.earn(partner(1), commission(4), 5_00);
        world.claw_back(partner(1), commission(1), 3_33, 6_67);
        world.claw_back(partner(2), commission(2), 20_00, 0);
        world.claw_back(partner(2), commission(2), -20_00, 20_00);
        world.set_time(day(3));
        let payout = world.create(&everything(day(1))).unwrap();
        // Partner 2's reversal counts, although it was restored since: the next batch pays that.
        assert_eq!(amounts(&payout), [(partner(1), 6_67), (partner(3), 30_00)]);
        assert_eq!(payout.total, Money::new(36_67, Currency::USD));
        assert_eq!(world.money(partner(1)), (5_00, 6_67, 0));
        assert_eq!(world.money(partner(2)), (20_00, 0, 0));
        assert_eq!(world.money(partner(3)), (0, 30_00, 0));
        let next = world.create(&everything(day(3))).unwrap();
        assert_eq!(amounts(&next), [(partner(1), 5_00), (partner(2), 20_00)]);
        world.assert_sound();
    }

    #[test]
    fn what_a_payout_took_is_not_paid_again_by_another_with_the_same_cut_off() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.set_time(day(2));
        world.create(&everything(day(1))).unwrap();
        world.earn(partner(1), commission(2), 4_00);
        assert_eq!(world.create(&everything(day(1))).unwrap_err().code(), "nothing_to_pay");
        assert_eq!(amounts(&world.create(&everything(day(2))).unwrap()), [(partner(1), 4_00)]);
    }

    #[test]
    fn what_was_paid_before_the_cut_off_and_clawed_back_is_netted_and_carried() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.create(&everything(day(0))).unwrap();
        world.claw_back(partner(1), commission(1), 4_00, 6_00);
        let dry = world.create(&CreatePayout { dry_run: true, ..everything(day(0)) }).unwrap();
        assert_eq!(dry.items, []);
        let carried = CarriedView {
            partner_id: partner(1),
            reason: CarriedReason::NothingPayable,
            amount: Money::new(-4_00, Currency::USD),
        };
        assert_eq!(dry.carried, [carried]);
        world.earn(partner(1), commission(2), 5_00);
        assert_eq!(amounts(&world.create(&everything(day(0))).unwrap()), [(partner(1), 1_00)]);
    }

    #[test]
    fn a_dry_run_shows_the_same_and_stores_nothing() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.earn(partner(2), commission(2), 9_99);
        world.earn(partner(3), commission(3), 50_00);
        world.set_state(partner(3), PartnerState::Suspended);
        let minimum = Some(Amount::new(Money::new(10_00, Currency::USD)).unwrap());
        let create = CreatePayout { minimum, dry_run: true, ..everything(day(0)) };
        let head = world.db.head();
        let dry = world.create(&create).unwrap();
        assert_eq!(
            (world.db.head(), world.read(|r| views::list(r, &Default::default(), &page())).items.len()),
            (head, 0)
        );
        assert_eq!(world.money(partner(1)), (10_00, 0, 0));
        let real = world.create(&CreatePayout { dry_run: false, ..create }).unwrap();
        assert_eq!(amounts(&dry), amounts(&real));
        assert_eq!((&dry.content_digest, dry.total, &dry.carried), (&real.content_digest, real.total, &real.carried));
        let carried: Vec<_> = real.carried.iter().map(|c| (c.partner_id, c.reason, c.amount.amount_minor)).collect();
        let expected = [(partner(2), CarriedReason::BelowMinimum, 9_99), (partner(3), CarriedReason::Suspended, 50_00)];
        assert_eq!(carried, expected);
        let mut stored = world.payout(real.id);
        stored.items.iter_mut().for_each(|item| item.due_at = None);
        assert_eq!(stored, real, "the stored view is the answered one");
        world.assert_sound();
    }

    fn page() -> platform::Page {
        platform::Page::first(10)
    }

    #[test]
    fn partners_in_other_currencies_are_not_touched() {
        let world = world();
        let eur: Currency = "EUR".parse().unwrap();
        world.earn(partner(1), commission(1), 10_00);
        world.earn_in(partner(1), commission(2), 7_00, eur);
        world.earn_in(partner(2), commission(3), 8_00, eur);
        assert_eq!(amounts(&world.create(&everything(day(0))).unwrap()), [(partner(1), 10_00)]);
        let payout = world.create(&CreatePayout { currency: eur, ..everything(day(0)) }).unwrap();
        assert_eq!(amounts(&payout), [(partner(1), 7_00), (partner(2), 8_00)]);
        world.assert_sound();
    }

    #[test]
    fn only_named_partners_are_paid_and_all_of_them_are_answered() {
        let world = world();
        (1..=3).for_each(|number| world.earn(partner(number), commission(number), 10_00));
        let named = |ids: Vec<PartnerId>| CreatePayout { partner_ids: Some(ids), ..everything(day(0)) };
        let payout = world.create(&named(vec![partner(3), partner(1), partner(4), partner(3)])).unwrap();
        assert_eq!(amounts(&payout), [(partner(1), 10_00), (partner(3), 10_00)]);
        assert_eq!(payout.carried.iter().map(|c| c.partner_id).collect::<Vec<_>>(), [partner(4)]);
        let fault = world.create(&named(vec![partner(2), partner(77)])).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("partner_unknown", "/partner_ids/1"));
        assert_eq!(world.money(partner(2)), (10_00, 0, 0));
    }

    #[test]
    fn named_commissions_are_paid_as_far_as_they_are_payable() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.earn(partner(1), commission(2), 20_00);
        world.earn(partner(1), commission(3), 40_00);
        world.claw_back(partner(1), commission(2), 5_00, 15_00);
        let named = |ids: Vec<CommissionId>| CreatePayout { commission_ids: Some(ids), ..everything(day(0)) };
        let payout = world.create(&named(vec![commission(2), commission(1), commission(2)])).unwrap();
        assert_eq!(amounts(&payout), [(partner(1), 25_00)]);
        assert_eq!(payout.items[0].commission_ids, [commission(2), commission(1)]);
        assert_eq!(world.money(partner(1)), (40_00, 25_00, 0));
        let refused = |ids: Vec<CommissionId>| {
            let fault = world.create(&named(ids)).unwrap_err();
            (fault.code(), fault.errors()[0].pointer.clone(), fault.detail().to_owned())
        };
        // Taken by the batch above, before `commissions` has heard of it, and after.
        let (code, pointer, detail) = refused(vec![commission(3), commission(1)]);
        assert_eq!((code, pointer.as_str()), ("commission_not_payable", "/commission_ids/1"));
        assert!(detail.ends_with("is part of another payout"), "{detail}");
        world.start_payout(partner(1), commission(1), 10_00);
        assert!(refused(vec![commission(1)]).2.ends_with("is in_payout"));
        assert!(refused(vec![commission(99)]).2.ends_with("does not exist"));
        world.earn_in(partner(1), commission(5), 1_00, "EUR".parse().unwrap());
        assert!(refused(vec![commission(5)]).2.ends_with("is in EUR"));
        world.assert_sound();
    }

    #[test]
    fn named_commissions_never_give_more_than_the_balance() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.earn(partner(1), commission(2), 20_00);
        world.create(&CreatePayout { commission_ids: Some(vec![commission(1)]), ..everything(day(0)) }).unwrap();
        world.claw_back(partner(1), commission(1), 10_00, 0);
        let only = CreatePayout { commission_ids: Some(vec![commission(2)]), ..everything(day(0)) };
        assert_eq!(amounts(&world.create(&only).unwrap()), [(partner(1), 10_00)]);
        assert_eq!(world.money(partner(1)), (0, 20_00, 0));
    }

    #[test]
    fn bad_requests_point_at_the_place() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        let eur = Amount::new(Money::new(1, "EUR".parse().unwrap())).unwrap();
        let good = || everything(day(0));
        let cases = [
            (everything(day(1)), "cut_off_in_future", "/cut_off"),
            (CreatePayout { minimum: Some(eur), ..good() }, "currency_mismatch", "/minimum/currency"),
            (CreatePayout { partner_ids: Some(Vec::new()), ..good() }, "invalid", "/partner_ids"),
            (CreatePayout { commission_ids: Some(vec![commission(1); 1_001]), ..good() }, "invalid", "/commission_ids"),
            (
                CreatePayout {
                    partner_ids: Some(vec![partner(1)]),
                    commission_ids: Some(vec![commission(1)]),
                    ..good()
                },
                "invalid",
                "/commission_ids",
            ),
        ];
        let head = world.db.head();
        for (create, code, pointer) in cases {
            let fault = world.create(&create).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), (code, pointer));
        }
        assert!(
            serde_json::from_str::<CreatePayout>(r#"{"currency":"USD","cut_off":"2026-01-31T12:00:00Z","rate":1}"#)
                .is_err()
        );
        assert_eq!(world.db.head(), head);
    }

    #[test]
    fn the_number_of_statements_does_not_depend_on_the_number_of_partners() {
        let statements = |paid: u8| {
            let world = world();
            (1..=200).for_each(|number| {
                world.earn(partner(number), commission(number), if number <= paid { 10_00 } else { 1 });
            });
            let count = || world.db.stats().statements.load(std::sync::atomic::Ordering::Relaxed);
            let before = count();
            let minimum = Some(Amount::new(Money::new(2, Currency::USD)).unwrap());
            let payout = world.create(&CreatePayout { minimum, ..everything(day(0)) }).unwrap();
            assert_eq!(payout.items.len(), usize::from(paid));
            world.write("checker", |tx| approve(tx, payout.id, &SETTINGS)).unwrap();
            world.write("maker", |tx| submit(tx, payout.id)).unwrap();
            count() - before
        };
        assert_eq!(statements(2), statements(200));
    }
}
