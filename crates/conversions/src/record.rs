//! Recording facts: one transaction for a batch, a number of statements that does not depend on its size, and an answer
//! per item. A repeat gets the first answer again; one bad item never fails its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, CampaignReference};
use events::conversions::{ConversionState, Recorded, RefundRecorded, TouchRecorded};
use kernel::{
    CampaignId, ConversionId, Currency, Event, Fault, Id, NewEvent, RefundId, Result, Timestamp, TouchId,
    problems as common,
};
use platform::{OnDuplicate, Row, Tx, Value, published};
use serde::Serialize;

use crate::model::named::Named;
use crate::model::refund::RefundState;
use crate::prepare::{Body, ConversionBody, Prepared};
use crate::problems;

/// The answer to a recorded fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The fact's id.
    pub id: String,
    /// `conversion`, `touch` or `refund`.
    pub kind: &'static str,
    /// The system that told it.
    pub source: String,
    /// Its id there.
    pub external_id: String,
    /// The state of a conversion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ConversionState>,
    /// It had been recorded before: this is the first answer again.
    pub duplicate: bool,
    /// The position of the event that records it.
    pub position: i64,
    /// When it became known.
    pub recorded_at: Timestamp,
}

/// What is known under a natural key: from the database, or from earlier in the batch.
struct Known {
    id: String,
    digest: [u8; 16],
    place: Place,
    state: Option<ConversionState>,
    /// Of a conversion: what refunds are measured by.
    amount: Option<(i64, Currency)>,
}

enum Place {
    Stored {
        position: i64,
        recorded_at: Timestamp,
    },
    /// The index of its event among those of this batch.
    New(usize),
}

/// The natural keys of one kind that a batch is about, sorted, and what is known under each.
struct Keys<'p> {
    keys: Vec<(&'p str, &'p str)>,
    known: Vec<Option<Known>>,
}

impl<'p> Keys<'p> {
    fn of(keys: impl Iterator<Item = (&'p str, &'p str)>) -> Self {
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        let known = keys.iter().map(|_| None).collect();
        Self { keys, known }
    }

    fn params(&self) -> Vec<[Value<'p>; 2]> {
        self.keys.iter().map(|(source, external_id)| [(*source).into(), (*external_id).into()]).collect()
    }

    fn learn(&mut self, found: Vec<(String, String, Known)>) {
        for (source, external_id, known) in found {
            if let Some(slot) = self.slot((&source, &external_id)) {
                self.known[slot] = Some(known);
            }
        }
    }

    fn slot(&self, key: (&str, &str)) -> Option<usize> {
        self.keys.binary_search_by(|probe| probe.0.cmp(key.0).then_with(|| probe.1.cmp(key.1))).ok()
    }

    fn get(&self, key: (&str, &str)) -> Option<&Known> {
        self.known[self.slot(key)?].as_ref()
    }
}

/// A fact that is taken in.
struct Accepted<'p> {
    id: [u8; 16],
    item: &'p Prepared,
}

/// Records a batch of facts, `correlation_ids[i]` being what the client of item i sent to find its own traces. Faults of
/// an item: `fact_differs`, `currency_mismatch`, `refund_exceeds_conversion`; of the whole: those of the database.
pub fn record(
    tx: &mut Tx<'_>,
    prepared: &[Prepared],
    correlation_ids: &[Option<&str>],
) -> Result<Vec<Result<Receipt>>> {
    let mut batch = Batch::load(tx, prepared)?;
    let mut answers: Vec<Result<Fresh>> = Vec::with_capacity(prepared.len());
    let mut accepted: Vec<Accepted<'_>> = Vec::with_capacity(prepared.len());
    let mut events: Vec<NewEvent> = Vec::with_capacity(prepared.len());
    for (index, item) in prepared.iter().enumerate() {
        let fresh = batch.judge(item);
        if let Ok(Fresh(true)) = fresh {
            let (id, mut event) = new_event(tx, item);
            event.correlation_id = correlation_ids.get(index).copied().flatten().map(str::to_owned);
            batch.accept(item, &event.subject, events.len());
            events.push(event);
            accepted.push(Accepted { id, item });
        }
        answers.push(fresh);
    }
    let first = if events.is_empty() { 0 } else { tx.publish(&events)? };
    store(tx, &accepted, first)?;
    let now = tx.now();
    let receipt = |(item, answer): (_, Result<Fresh>)| answer.map(|fresh| batch.receipt(item, fresh, first, now));
    Ok(prepared.iter().zip(answers).map(receipt).collect())
}

/// Whether a fact is new; otherwise it repeats one that is known.
#[derive(Clone, Copy)]
struct Fresh(bool);

struct Batch<'p> {
    touches: Keys<'p>,
    conversions: Keys<'p>,
    refunds: Keys<'p>,
    currencies: BTreeMap<&'p str, Currency>,
}

impl<'p> Batch<'p> {
    fn load(tx: &Tx<'_>, prepared: &'p [Prepared]) -> Result<Self> {
        let keys =
            |kind: &'static str| prepared.iter().filter(move |item| item.kind() == kind).map(Prepared::natural_key);
        let refunded = prepared.iter().filter_map(|item| match &item.body {
            Body::Refund(fact) => Some((fact.conversion_source().as_str(), fact.conversion_external_id.as_str())),
            _ => None,
        });
        let mut batch = Self {
            touches: Keys::of(keys("touch")),
            conversions: Keys::of(keys("conversion").chain(refunded)),
            refunds: Keys::of(keys("refund")),
            currencies: campaign_currencies(tx, prepared)?,
        };
        let sql = "SELECT source, external_id, id, digest, position, recorded_at FROM touch WHERE (source, external_id) IN (?*)";
        batch.touches.learn(
            tx.query_in(sql, &[], &batch.touches.params(), |row| known(row, |id| TouchId::from_bytes(id).to_string()))?,
        );
        let sql = "SELECT source, external_id, id, digest, position, recorded_at FROM refund WHERE (source, external_id) IN (?*)";
        batch.refunds.learn(tx.query_in(sql, &[], &batch.refunds.params(), |row| {
            known(row, |id| RefundId::from_bytes(id).to_string())
        })?);
        let sql = "SELECT source, external_id, id, digest, position, recorded_at, state, amount_minor, currency \
            FROM conversion WHERE (source, external_id) IN (?*)";
        let found = tx.query_in(sql, &[], &batch.conversions.params(), |row| {
            let (source, external_id, mut known) = known(row, |id| ConversionId::from_bytes(id).to_string())?;
            known.state = Some(row.name(6)?);
            known.amount = Some((row.int(7)?, row.text(8)?.parse().map_err(Fault::internal)?));
            Ok((source, external_id, known))
        })?;
        batch.conversions.learn(found);
        Ok(batch)
    }

    fn of_kind(&self, item: &Prepared) -> &Keys<'p> {
        match item.body {
            Body::Touch { .. } => &self.touches,
            Body::Conversion(_) => &self.conversions,
            Body::Refund(_) => &self.refunds,
        }
    }

    fn judge(&self, item: &Prepared) -> Result<Fresh> {
        if let Some(known) = self.of_kind(item).get(item.natural_key()) {
            if known.digest == item.digest {
                return Ok(Fresh(false));
            }
            let (source, external_id) = item.natural_key();
            let detail = format!("{source} told {external_id} with another body before: {}", known.id);
            return Err(Fault::new(&problems::FACT_DIFFERS, detail));
        }
        match &item.body {
            Body::Conversion(body) => self.check_currency(body.as_ref())?,
            Body::Refund(fact) => {
                let sale = (fact.conversion_source().as_str(), fact.conversion_external_id.as_str());
                let known = self.conversions.get(sale).and_then(|known| known.amount);
                if let (Some(refund), Some((sale_minor, currency))) = (fact.amount, known) {
                    check_refund(refund.minor(), refund.currency(), sale_minor, currency)?;
                }
            }
            Body::Touch { .. } => {}
        }
        Ok(Fresh(true))
    }

    fn check_currency(&self, body: &ConversionBody) -> Result<()> {
        let expected = body.named_campaign.as_deref().and_then(|name| self.currencies.get(name));
        match expected {
            Some(expected) if *expected != body.fact.amount.currency() => {
                let detail = format!("the campaign's currency is {expected}");
                Err(Fault::at(&common::CURRENCY_MISMATCH, "/amount/currency", detail))
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, item: &'p Prepared, id: &str, event_index: usize) {
        let (state, amount) = match &item.body {
            Body::Conversion(body) => {
                (Some(ConversionState::Recorded), Some((body.fact.amount.minor(), body.fact.amount.currency())))
            }
            _ => (None, None),
        };
        let keys = match item.body {
            Body::Touch { .. } => &mut self.touches,
            Body::Conversion(_) => &mut self.conversions,
            Body::Refund(_) => &mut self.refunds,
        };
        let slot = keys.slot(item.natural_key()).expect("every item's key was collected");
        keys.known[slot] =
            Some(Known { id: id.to_owned(), digest: item.digest, place: Place::New(event_index), state, amount });
    }

    fn receipt(&self, item: &Prepared, fresh: Fresh, first: i64, now: Timestamp) -> Receipt {
        let known = self.of_kind(item).get(item.natural_key()).expect("accepted, or known before");
        let (position, recorded_at) = match known.place {
            Place::Stored { position, recorded_at } => (position, recorded_at),
            Place::New(index) => (first + as_int(index), now),
        };
        let (source, external_id) = item.natural_key();
        Receipt {
            id: known.id.clone(),
            kind: item.kind(),
            source: source.to_owned(),
            external_id: external_id.to_owned(),
            state: known.state,
            duplicate: !fresh.0,
            position,
            recorded_at,
        }
    }
}

fn as_int(index: usize) -> i64 {
    i64::try_from(index).expect("a batch is small")
}

fn check_refund(refund_minor: i64, refund_currency: Currency, sale_minor: i64, sale_currency: Currency) -> Result<()> {
    if refund_currency != sale_currency {
        let detail = format!("the conversion's currency is {sale_currency}");
        return Err(Fault::at(&common::CURRENCY_MISMATCH, "/amount/currency", detail));
    }
    if refund_minor > sale_minor {
        let detail = format!("the conversion is worth {sale_minor}");
        return Err(Fault::at(&problems::REFUND_EXCEEDS_CONVERSION, "/amount/amount_minor", detail));
    }
    Ok(())
}

fn known(row: &Row<'_>, id: fn([u8; 16]) -> String) -> Result<(String, String, Known)> {
    let known = Known {
        id: id(row.bytes16(2)?),
        digest: row.bytes16(3)?,
        place: Place::Stored { position: row.int(4)?, recorded_at: row.time(5)? },
        state: None,
        amount: None,
    };
    Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), known))
}

/// The currencies of the campaigns that the batch's conversions name, as far as they are known.
fn campaign_currencies<'p>(tx: &Tx<'_>, prepared: &'p [Prepared]) -> Result<BTreeMap<&'p str, Currency>> {
    let mut ids: BTreeMap<&'p str, CampaignId> = BTreeMap::new();
    let mut references: BTreeSet<&'p str> = BTreeSet::new();
    for item in prepared {
        let Body::Conversion(body) = &item.body else { continue };
        match (&body.fact.campaign_id, &body.named_campaign) {
            (Some(Named::Id(id)), Some(name)) => {
                ids.insert(name, *id);
            }
            (Some(Named::Reference(_)), Some(name)) => {
                references.insert(name);
            }
            _ => {}
        }
    }
    let keys: Vec<&[u8]> = references.iter().map(|name| name.as_bytes()).collect();
    let found = published::get::<CampaignReference>(tx, &keys)?;
    ids.extend(references.iter().filter_map(|name| Some((*name, found.get(name.as_bytes())?.campaign_id))));
    let keys: Vec<&[u8]> = ids.values().map(|id| id.as_bytes().as_slice()).collect();
    let profiles = published::get::<CampaignProfile>(tx, &keys)?;
    Ok(ids.iter().filter_map(|(name, id)| Some((*name, profiles.get(id.as_bytes().as_slice())?.currency))).collect())
}

fn new_event(tx: &Tx<'_>, item: &Prepared) -> ([u8; 16], NewEvent) {
    match item.body {
        Body::Touch { .. } => {
            let id: TouchId = tx.new_id();
            (*id.as_bytes(), event_of::<TouchRecorded>("touch_id", id.to_string(), &item.payload_tail))
        }
        Body::Conversion(_) => {
            let id: ConversionId = tx.new_id();
            (*id.as_bytes(), event_of::<Recorded>("conversion_id", id.to_string(), &item.payload_tail))
        }
        Body::Refund(_) => {
            let id: RefundId = tx.new_id();
            (*id.as_bytes(), event_of::<RefundRecorded>("refund_id", id.to_string(), &item.payload_tail))
        }
    }
}

/// The event whose JSON was prepared, but for the id in its first field.
fn event_of<E: Event>(id_field: &str, subject: String, payload_tail: &str) -> NewEvent {
    let payload = ["{\"", id_field, "\":\"", &subject, "\"", payload_tail].concat();
    NewEvent {
        event_type: E::TYPE,
        aggregate: E::AGGREGATE,
        subject,
        payload,
        causation_id: None,
        correlation_id: None,
    }
}

fn store(tx: &mut Tx<'_>, accepted: &[Accepted<'_>], first: i64) -> Result<()> {
    store_touches(tx, accepted, first)?;
    store_conversions(tx, accepted, first)?;
    store_refunds(tx, accepted, first)
}

fn store_touches(tx: &mut Tx<'_>, accepted: &[Accepted<'_>], first: i64) -> Result<()> {
    let now = tx.now();
    let mut clicks: Vec<[Value<'_>; 2]> = Vec::new();
    let mut rows: Vec<[Value<'_>; 15]> = Vec::new();
    for (position, Accepted { id, item }) in (first..).zip(accepted) {
        let Body::Touch { fact, customer } = &item.body else { continue };
        let (campaign_id, campaign_ref) = columns(&fact.campaign_id);
        let (partner_id, partner_ref) = columns(&fact.partner_id);
        let click_id = fact.click_id.as_ref().map(kernel::Key::as_str);
        rows.push([
            id.into(),
            fact.source.as_str().into(),
            fact.external_id.as_str().into(),
            (&item.digest).into(),
            position.into(),
            position.into(),
            now.into(),
            fact.occurred_at.into(),
            fact.kind.as_str().into(),
            customer.into(),
            campaign_id,
            campaign_ref,
            partner_id,
            partner_ref,
            click_id.into(),
        ]);
        clicks.extend(click_id.map(|click_id| [click_id.into(), id.into()]));
    }
    let columns = [
        "id",
        "source",
        "external_id",
        "digest",
        "position",
        "counted_from",
        "recorded_at",
        "occurred_at",
        "kind",
        "customer_key",
        "campaign_id",
        "campaign_ref",
        "partner_id",
        "partner_ref",
        "click_id",
    ];
    tx.insert("touch", columns, &rows, OnDuplicate::Fail)?;
    tx.insert("touch_click", ["click_id", "touch_id"], &clicks, OnDuplicate::Fail)
}

/// The columns of a name: our id, or the other system's reference.
fn columns<K>(named: &Named<Id<K>>) -> (Value<'_>, Value<'_>) {
    match named {
        Named::Id(id) => (id.into(), Value::Text(None)),
        Named::Reference(text) => (Value::Bytes(None), text.into()),
    }
}

fn store_conversions(tx: &mut Tx<'_>, accepted: &[Accepted<'_>], first: i64) -> Result<()> {
    let now = tx.now();
    let mut rows: Vec<[Value<'_>; 24]> = Vec::new();
    for (position, Accepted { id, item }) in (first..).zip(accepted) {
        let Body::Conversion(body) = &item.body else { continue };
        let fact = &body.fact;
        rows.push([
            id.into(),
            fact.source.as_str().into(),
            fact.external_id.as_str().into(),
            (&item.digest).into(),
            position.into(),
            now.into(),
            fact.kind.as_str().into(),
            fact.occurred_at.into(),
            fact.amount.minor().into(),
            Value::Text(Some(body.currency.as_str())),
            body.named_campaign.as_deref().into(),
            body.named_partner.as_deref().into(),
            fact.code.as_ref().map(kernel::Key::as_str).into(),
            fact.click_id.as_ref().map(kernel::Key::as_str).into(),
            body.customer.as_ref().into(),
            fact.customer_ref.as_ref().map(kernel::Key::as_str).into(),
            body.lines.as_deref().into(),
            body.metadata.as_deref().into(),
            body.terms.as_deref().into(),
            ConversionState::Recorded.as_str().into(),
            0.into(),
            0.into(),
            0.into(),
            0.into(),
        ]);
    }
    let columns = [
        "id",
        "source",
        "external_id",
        "digest",
        "position",
        "recorded_at",
        "kind",
        "occurred_at",
        "amount_minor",
        "currency",
        "named_campaign",
        "named_partner",
        "code",
        "click_id",
        "customer_key",
        "customer_ref",
        "order_lines",
        "metadata",
        "terms",
        "state",
        "decision",
        "first_purchase",
        "refund_sum_minor",
        "whole_refunds",
    ];
    tx.insert("conversion", columns, &rows, OnDuplicate::Fail)
}

fn store_refunds(tx: &mut Tx<'_>, accepted: &[Accepted<'_>], first: i64) -> Result<()> {
    let now = tx.now();
    let currencies: Vec<Option<Currency>> = accepted
        .iter()
        .map(|accepted| match &accepted.item.body {
            Body::Refund(fact) => fact.amount.map(kernel::Amount::currency),
            _ => None,
        })
        .collect();
    let mut rows: Vec<[Value<'_>; 14]> = Vec::new();
    for (position, (Accepted { id, item }, currency)) in (first..).zip(accepted.iter().zip(&currencies)) {
        let Body::Refund(fact) = &item.body else { continue };
        rows.push([
            id.into(),
            fact.source.as_str().into(),
            fact.external_id.as_str().into(),
            (&item.digest).into(),
            position.into(),
            now.into(),
            fact.occurred_at.into(),
            fact.conversion_source().as_str().into(),
            fact.conversion_external_id.as_str().into(),
            fact.kind.as_str().into(),
            fact.amount.map(kernel::Amount::minor).into(),
            currency.as_ref().map(Currency::as_str).into(),
            fact.reason.as_str().into(),
            RefundState::Recorded.as_str().into(),
        ]);
    }
    let columns = [
        "id",
        "source",
        "external_id",
        "digest",
        "position",
        "recorded_at",
        "occurred_at",
        "conversion_source",
        "conversion_external_id",
        "kind",
        "amount_minor",
        "currency",
        "note",
        "state",
    ];
    tx.insert("refund", columns, &rows, OnDuplicate::Fail)
}
