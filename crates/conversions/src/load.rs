//! Loads a book: the facts that a slice is about, whatever they touch, and the reference data that decide about them.
//! The number of statements does not depend on the length of the slice.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, CampaignReference, CodeOwner, Enrollments};
use events::conversions::{Recorded, RefundRecorded, TouchRecorded};
use events::partners::{PartnerProfile, PartnerReference};
use kernel::{Amount, CampaignId, ConversionId, Event, EventRecord, Fault, Id, Money, PartnerId, Published, Result};
use platform::{Reader, Row, Value, published};
use serde::Deserialize;

use crate::model::book::{Book, UnknownReference, wait_keys};
use crate::model::conversion::{Conversion, Customer, Listed, Standing, Touch};
use crate::model::named::Named;
use crate::model::reference_data::{ReferenceData, click_key, conversion_key};
use crate::model::refund::RefundSum;

/// What a book is asked to be about.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Conversions that may be decided again, and with them all of their customers'.
    pub(crate) conversions: BTreeSet<ConversionId>,
    /// Conversions that are decided for the first time.
    pub(crate) arrivals: BTreeMap<ConversionId, Option<Customer>>,
    /// Conversions by natural key: somebody refunds them.
    pub(crate) sales: BTreeSet<(String, String)>,
    /// Customers of whom every conversion may be decided again.
    pub(crate) customers: BTreeSet<Customer>,
    /// What appears: conversions that wait for it are decided again.
    pub(crate) appearing: BTreeSet<String>,
    /// What parked facts may wait for.
    pub(crate) resuming: BTreeSet<String>,
    /// Parties that no fact names: an operator does.
    pub(crate) parties: Option<(CampaignId, PartnerId)>,
}

/// The fields of a recorded event by which rows are found; the rows know the rest.
#[derive(Deserialize)]
struct Pointers<'e> {
    #[serde(borrow)]
    source: std::borrow::Cow<'e, str>,
    #[serde(borrow)]
    external_id: std::borrow::Cow<'e, str>,
    #[serde(borrow, default)]
    customer: Option<std::borrow::Cow<'e, str>>,
    #[serde(borrow, default)]
    click_id: Option<std::borrow::Cow<'e, str>>,
}

impl Wanted {
    /// Adds what an event is about.
    pub(crate) fn add(&mut self, event: &EventRecord) -> Result<()> {
        let undecodable = |error: serde_json::Error| Fault::internal(format!("{}: {error}", event.subject));
        match event.event_type.as_str() {
            Recorded::TYPE => {
                let pointers: Pointers<'_> = serde_json::from_str(&event.payload).map_err(undecodable)?;
                self.resuming.insert(conversion_key(&pointers.source, &pointers.external_id));
                let customer = pointers.customer.map(|customer| unhex(&customer)).transpose()?;
                self.arrivals.insert(event.subject.parse().map_err(Fault::internal)?, customer);
            }
            TouchRecorded::TYPE => {
                let pointers: Pointers<'_> = serde_json::from_str(&event.payload).map_err(undecodable)?;
                self.customers.insert(unhex(&pointers.customer.unwrap_or_default())?);
                self.appearing.extend(pointers.click_id.as_deref().map(click_key));
            }
            RefundRecorded::TYPE => {
                let refund: RefundRecorded = event.decode()?;
                self.sales.insert((refund.conversion_source.into(), refund.conversion_external_id.into()));
            }
            _ => {
                let keys = wait_keys(event)?;
                self.resuming.extend(keys.iter().cloned());
                self.appearing.extend(keys);
            }
        }
        Ok(())
    }

    /// Adds what the event of a parked fact is about: a conversion that waits may have been decided before.
    pub(crate) fn add_parked(&mut self, event: &EventRecord) -> Result<()> {
        self.add(event)?;
        if event.is::<Recorded>() {
            self.conversions.insert(event.subject.parse().map_err(Fault::internal)?);
        }
        Ok(())
    }
}

fn unhex(text: &str) -> Result<Customer> {
    let digits =
        u128::from_str_radix(text, 16).map_err(|error| Fault::internal(format!("customer {text}: {error}")))?;
    Ok(digits.to_be_bytes())
}

/// Loads the book.
pub(crate) fn load(reader: &Reader<'_>, wanted: &Wanted, unknown_reference: UnknownReference) -> Result<Book> {
    let waits = conversion_waits(reader, &wanted.appearing)?;
    let mut again = wanted.conversions.clone();
    again.extend(waits.iter().map(|(_, id)| *id));
    let mut found: BTreeMap<ConversionId, Conversion> = BTreeMap::new();
    let ids = again.iter().chain(wanted.arrivals.keys()).copied().collect();
    found.extend(conversions_by_id(reader, &ids)?.into_iter().map(|c| (c.id, c)));
    let sales = conversions_by_natural_key(reader, &wanted.sales)?;
    let sale_ids: Vec<ConversionId> = sales.iter().map(|sale| sale.id).collect();
    found.extend(sales.into_iter().map(|c| (c.id, c)));
    let mut customers = wanted.customers.clone();
    customers.extend(again.iter().filter_map(|id| found.get(id)?.customer));
    let mut buyers: BTreeSet<Customer> = wanted.arrivals.values().flatten().copied().collect();
    if wanted.appearing.is_empty() {
        buyers.retain(|customer| !customers.contains(customer));
    } else {
        // What appears may have any conversion of the slice decided again.
        customers.append(&mut buyers);
    }
    let everybody = &customers | &buyers;
    let listed = conversions_of(reader, &everybody)?;
    // A new decision can only take the first purchase from the one that has it; the others are seen by their place.
    let needed = listed.iter().filter(|listed| listed.first_purchase || customers.contains(&listed.customer));
    let needed = needed.map(|listed| listed.conversion_id).filter(|id| !found.contains_key(id)).collect();
    found.extend(conversions_by_id(reader, &needed)?.into_iter().map(|c| (c.id, c)));
    let clicks: BTreeSet<&str> = found.values().filter_map(|conversion| conversion.click_id.as_deref()).collect();
    let mut touches: BTreeMap<_, Touch> =
        touches_by_customer(reader, &everybody)?.into_iter().map(|touch| (touch.id, touch)).collect();
    touches.extend(touches_by_click(reader, &clicks)?.into_iter().map(|touch| (touch.id, touch)));
    let reference = reference_data(reader, &found, &touches.values().collect::<Vec<_>>(), wanted.parties)?;
    let mut book = Book::new(reference, unknown_reference);
    listed.into_iter().filter(|listed| !found.contains_key(&listed.conversion_id)).for_each(|l| book.add_listed(l));
    found.into_values().for_each(|conversion| book.add_conversion(conversion));
    touches.into_values().for_each(|touch| book.add_touch(touch));
    sale_ids.into_iter().for_each(|id| book.add_sale(id));
    waits.into_iter().for_each(|(key, id)| book.add_wait(key, id));
    Ok(book)
}

fn conversion_waits(reader: &Reader<'_>, keys: &BTreeSet<String>) -> Result<Vec<(String, ConversionId)>> {
    let keys: Vec<[Value<'_>; 1]> = keys.iter().map(|key| [key.into()]).collect();
    let sql =
        "SELECT wait_key, conversion_id FROM conversion_wait WHERE wait_key IN (?*) ORDER BY wait_key, conversion_id";
    reader.query_in(sql, &[], &keys, |row| Ok((row.text(0)?.to_owned(), row.id(1)?)))
}

fn id_keys<'i, K: 'i>(ids: impl IntoIterator<Item = &'i Id<K>>) -> Vec<[Value<'i>; 1]> {
    ids.into_iter().map(|id| [id.into()]).collect()
}

fn customer_keys(customers: &BTreeSet<Customer>) -> Vec<[Value<'_>; 1]> {
    customers.iter().map(|customer| [customer.into()]).collect()
}

macro_rules! conversion_sql {
    ($condition:literal) => {
        concat!(
            "SELECT id, source, external_id, position, recorded_at, kind, occurred_at, amount_minor, currency, ",
            "named_campaign, named_partner, code, click_id, customer_key, order_lines, terms, state, reason, decision, ",
            "decision_position, decided_from, decided_at, automatic_until, decided_by, campaign_id, partner_id, ",
            "first_purchase, refund_sum_minor, whole_refunds FROM conversion WHERE ",
            $condition
        )
    };
}

pub(crate) fn conversions_by_id(reader: &Reader<'_>, ids: &BTreeSet<ConversionId>) -> Result<Vec<Conversion>> {
    reader.query_in(conversion_sql!("id IN (?*) ORDER BY id"), &[], &id_keys(ids), conversion)
}

fn conversions_by_natural_key(reader: &Reader<'_>, sales: &BTreeSet<(String, String)>) -> Result<Vec<Conversion>> {
    let keys: Vec<[Value<'_>; 2]> = sales.iter().map(|(source, id)| [source.into(), id.into()]).collect();
    reader.query_in(conversion_sql!("(source, external_id) IN (?*) ORDER BY id"), &[], &keys, conversion)
}

/// The decided conversions of these customers, as they are listed.
pub(crate) fn conversions_of(reader: &Reader<'_>, customers: &BTreeSet<Customer>) -> Result<Vec<Listed>> {
    let sql = "SELECT customer_key, conversion_id, campaign_id, occurred_at, source, external_id, first_purchase \
        FROM customer_conversion WHERE customer_key IN (?*) ORDER BY customer_key, conversion_id";
    reader.query_in(sql, &[], &customer_keys(customers), |row| {
        Ok(Listed {
            customer: row.bytes16(0)?,
            conversion_id: row.id(1)?,
            campaign_id: row.opt_id(2)?,
            occurred_at: row.time(3)?,
            source: row.text(4)?.to_owned(),
            external_id: row.text(5)?.to_owned(),
            first_purchase: row.int(6)? != 0,
        })
    })
}

/// A page of all conversions, by id.
pub(crate) fn conversions_after(reader: &Reader<'_>, after: ConversionId, limit: i64) -> Result<Vec<Conversion>> {
    reader.query(conversion_sql!("id > ? ORDER BY id LIMIT ?"), &[(&after).into(), limit.into()], conversion)
}

fn conversion(row: &Row<'_>) -> Result<Conversion> {
    let currency = row.text(8)?.parse().map_err(Fault::internal)?;
    let text = |column: usize| -> Result<Option<String>> { Ok(row.opt_text(column)?.map(str::to_owned)) };
    let lines = if row.opt_text(14)?.is_some() { row.json(14)? } else { Vec::new() };
    let terms = if row.opt_text(15)?.is_some() { Some(row.json(15)?) } else { None };
    Ok(Conversion {
        id: row.id(0)?,
        source: row.text(1)?.to_owned(),
        external_id: row.text(2)?.to_owned(),
        position: row.int(3)?,
        recorded_at: row.time(4)?,
        kind: row.name(5)?,
        occurred_at: row.time(6)?,
        amount: Amount::new(Money::new(row.int(7)?, currency))?,
        campaign: row.opt_text(9)?.map(str::parse).transpose().map_err(Fault::internal)?,
        partner: row.opt_text(10)?.map(str::parse).transpose().map_err(Fault::internal)?,
        code: text(11)?,
        click_id: text(12)?,
        customer: row.opt_bytes16(13)?,
        lines,
        terms,
        standing: standing(row, 16)?,
    })
}

fn standing(row: &Row<'_>, from: usize) -> Result<Standing> {
    let rule = row.opt_text(from + 7)?.map(str::parse).transpose().map_err(Fault::internal)?;
    Ok(Standing {
        state: row.name(from)?,
        reason: row.opt_text(from + 1)?.map(str::to_owned),
        decision: u32::try_from(row.int(from + 2)?).map_err(Fault::internal)?,
        decision_position: row.opt_int(from + 3)?,
        decided_from: row.opt_int(from + 4)?,
        decided_at: row.opt_time(from + 5)?,
        automatic_until: row.opt_time(from + 6)?,
        rule,
        campaign_id: row.opt_id(from + 8)?,
        partner_id: row.opt_id(from + 9)?,
        first_purchase: row.int(from + 10)? != 0,
        refunds: RefundSum { sum_minor: row.int(from + 11)?, whole: row.int(from + 12)? },
    })
}

macro_rules! touch_sql {
    ($from:literal) => {
        concat!(
            "SELECT t.id, t.source, t.external_id, t.position, t.counted_from, t.occurred_at, t.customer_key, ",
            "t.campaign_id, t.campaign_ref, t.partner_id, t.partner_ref, t.click_id FROM ",
            $from
        )
    };
}

fn touches_by_customer(reader: &Reader<'_>, customers: &BTreeSet<Customer>) -> Result<Vec<Touch>> {
    let sql = touch_sql!("touch t WHERE t.customer_key IN (?*) ORDER BY t.id");
    reader.query_in(sql, &[], &customer_keys(customers), touch)
}

fn touches_by_click(reader: &Reader<'_>, clicks: &BTreeSet<&str>) -> Result<Vec<Touch>> {
    let keys: Vec<[Value<'_>; 1]> = clicks.iter().map(|click_id| [(*click_id).into()]).collect();
    let sql = touch_sql!("touch_click c JOIN touch t ON t.id = c.touch_id WHERE c.click_id IN (?*) ORDER BY t.id");
    reader.query_in(sql, &[], &keys, touch)
}

fn touch(row: &Row<'_>) -> Result<Touch> {
    Ok(Touch {
        id: row.id(0)?,
        source: row.text(1)?.to_owned(),
        external_id: row.text(2)?.to_owned(),
        position: row.int(3)?,
        counted_from: row.int(4)?,
        occurred_at: row.time(5)?,
        customer: row.bytes16(6)?,
        campaign: named(row, 7)?,
        partner: named(row, 9)?,
        click_id: row.opt_text(11)?.map(str::to_owned),
    })
}

fn named<K>(row: &Row<'_>, column: usize) -> Result<Named<Id<K>>> {
    Ok(match row.opt_id(column)? {
        Some(id) => Named::Id(id),
        None => Named::Reference(row.text(column + 1)?.to_owned()),
    })
}

/// Everything that is known about the parties of these facts.
fn reference_data(
    reader: &Reader<'_>,
    conversions: &BTreeMap<ConversionId, Conversion>,
    touches: &[&Touch],
    parties: Option<(CampaignId, PartnerId)>,
) -> Result<ReferenceData> {
    let mut reference = ReferenceData::default();
    let (mut campaigns, mut partners) = (BTreeSet::new(), BTreeSet::new());
    let (mut campaign_texts, mut partner_texts, mut codes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let named_campaigns = conversions.values().filter_map(|c| c.campaign.as_ref());
    for name in named_campaigns.chain(touches.iter().map(|touch| &touch.campaign)) {
        match name {
            Named::Id(id) => campaigns.insert(*id),
            Named::Reference(text) => campaign_texts.insert(text.as_str()),
        };
    }
    let named_partners = conversions.values().filter_map(|c| c.partner.as_ref());
    for name in named_partners.chain(touches.iter().map(|touch| &touch.partner)) {
        match name {
            Named::Id(id) => partners.insert(*id),
            Named::Reference(text) => partner_texts.insert(text.as_str()),
        };
    }
    codes.extend(conversions.values().filter_map(|conversion| conversion.code.as_deref()));
    let by_text =
        |texts: &BTreeSet<&str>| -> Vec<Vec<u8>> { texts.iter().map(|text| text.as_bytes().to_vec()).collect() };
    for (text, owner) in get::<CodeOwner>(reader, &by_text(&codes))? {
        campaigns.insert(owner.campaign_id);
        partners.insert(owner.partner_id);
        reference.codes.insert(utf8(text)?, owner);
    }
    for (text, named) in get::<CampaignReference>(reader, &by_text(&campaign_texts))? {
        campaigns.insert(named.campaign_id);
        reference.campaign_references.insert(utf8(text)?, named.campaign_id);
    }
    for (text, named) in get::<PartnerReference>(reader, &by_text(&partner_texts))? {
        partners.insert(named.partner_id);
        reference.partner_references.insert(utf8(text)?, named.partner_id);
    }
    campaigns.extend(parties.map(|(campaign, _)| campaign));
    partners.extend(parties.map(|(_, partner)| partner));
    campaigns.extend(conversions.values().filter_map(|conversion| conversion.standing.campaign_id));
    for (key, profile) in get::<CampaignProfile>(reader, &id_texts(&campaigns))? {
        reference.campaigns.insert(id_of(&key)?, profile);
    }
    for (key, profile) in get::<PartnerProfile>(reader, &id_texts(&partners))? {
        reference.partners.insert(id_of(&key)?, profile);
    }
    load_enrollments(reader, &mut reference, conversions, touches, parties)?;
    load_requested(reader, &mut reference, &campaign_texts, &partner_texts)?;
    Ok(reference)
}

/// The enrolments that can matter: of every touch and code in its campaign, of every named partner in every campaign
/// that its conversion could be resolved to.
fn load_enrollments(
    reader: &Reader<'_>,
    reference: &mut ReferenceData,
    conversions: &BTreeMap<ConversionId, Conversion>,
    touches: &[&Touch],
    parties: Option<(CampaignId, PartnerId)>,
) -> Result<()> {
    let campaign_of = |name: &Named<CampaignId>| match name {
        Named::Id(id) => Some(*id),
        Named::Reference(text) => reference.campaign_references.get(text).copied(),
    };
    let partner_of = |name: &Named<PartnerId>| match name {
        Named::Id(id) => Some(*id),
        Named::Reference(text) => reference.partner_references.get(text).copied(),
    };
    let mut pairs: BTreeSet<(CampaignId, PartnerId)> = parties.into_iter().collect();
    pairs.extend(reference.codes.values().map(|owner| (owner.campaign_id, owner.partner_id)));
    pairs.extend(touches.iter().filter_map(|touch| Some((campaign_of(&touch.campaign)?, partner_of(&touch.partner)?))));
    for conversion in conversions.values() {
        let Some(partner) = conversion.partner.as_ref().and_then(partner_of) else { continue };
        if let Some(name) = &conversion.campaign {
            pairs.extend(campaign_of(name).map(|campaign| (campaign, partner)));
            continue;
        }
        let code = conversion.code.as_ref().and_then(|code| reference.codes.get(code));
        pairs.extend(code.map(|owner| (owner.campaign_id, partner)));
        let own = touches.iter().filter(|touch| {
            conversion.customer == Some(touch.customer)
                || (conversion.click_id.is_some() && conversion.click_id == touch.click_id)
        });
        pairs.extend(own.filter_map(|touch| Some((campaign_of(&touch.campaign)?, partner))));
    }
    let keys: Vec<Vec<u8>> =
        pairs.iter().map(|(campaign, partner)| Enrollments::key(*campaign, *partner).to_vec()).collect();
    for (key, enrollments) in get::<Enrollments>(reader, &keys)? {
        reference.enrollments.insert((id_of(&key[..16])?, id_of(&key[16..])?), enrollments);
    }
    Ok(())
}

/// For which of the references that are not known a provisional party has been asked for already.
fn load_requested(
    reader: &Reader<'_>,
    reference: &mut ReferenceData,
    campaign_texts: &BTreeSet<&str>,
    partner_texts: &BTreeSet<&str>,
) -> Result<()> {
    let campaigns = campaign_texts.iter().filter(|text| !reference.campaign_references.contains_key(**text));
    let partners = partner_texts.iter().filter(|text| !reference.partner_references.contains_key(**text));
    let unknown = campaigns.map(|text| ("campaign", *text)).chain(partners.map(|text| ("partner", *text)));
    let keys: Vec<[Value<'_>; 2]> = unknown.map(|(kind, text)| [kind.into(), text.into()]).collect();
    let sql =
        "SELECT kind, reference FROM requested_reference WHERE (kind, reference) IN (?*) ORDER BY kind, reference";
    let requested = reader.query_in(sql, &[], &keys, |row| {
        let kind = if row.text(0)? == "campaign" { "campaign" } else { "partner" };
        Ok((kind, row.text(1)?.to_owned()))
    })?;
    reference.requested.extend(requested);
    Ok(())
}

fn get<T: Published>(reader: &Reader<'_>, keys: &[Vec<u8>]) -> Result<BTreeMap<Vec<u8>, T>> {
    published::get(reader, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn id_texts<K>(ids: &BTreeSet<Id<K>>) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.as_bytes().to_vec()).collect()
}

fn id_of<K>(key: &[u8]) -> Result<Id<K>> {
    key.try_into().map(Id::from_bytes).map_err(Fault::internal)
}

fn utf8(text: Vec<u8>) -> Result<String> {
    String::from_utf8(text).map_err(Fault::internal)
}
