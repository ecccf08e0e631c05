//! What is known about conversions, for people and programs.

use events::conversions::{
    Attributed, Candidate, ConversionKind, ConversionState, Line, RefundKind, Rejected, Rule, Unattributed,
};
use kernel::{
    Amount, CampaignId, ConversionId, Currency, Event, EventRecord, Fault, Key, Money, PartnerId, RefundId, Result,
    Timestamp,
};
use platform::{Listing, Page, Paged, Reader, Row, Value, event_log, parking};
use serde::Serialize;

use crate::CONSUMER;
pub use crate::model::refund::RefundState;
use crate::model::refund::RefundSum;
use crate::problems;

/// A conversion and where its attribution stands.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ConversionView {
    /// The conversion.
    pub id: ConversionId,
    /// The system that told it.
    pub source: String,
    /// Its id there.
    pub external_id: String,
    /// What it is.
    pub kind: ConversionKind,
    /// Where its attribution stands.
    pub state: ConversionState,
    /// Why it is rejected, or the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The campaign, as decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The partner who is credited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// The code that the customer used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The id of the click.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub click_id: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it became known.
    pub recorded_at: Timestamp,
    /// What it is worth.
    pub amount: Money,
    /// What has been taken back of it, minor units.
    pub refunded_minor: i64,
    /// The number of its latest decision; 0: none yet.
    pub decision: u32,
    /// What it waits for, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkedView>,
    /// The lines of the order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
    /// Anything of the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a fact waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ParkedView {
    /// What it waits for, for example `partner:ptr_…`.
    pub wait_key: String,
    /// Why: `partner_unknown`, `partner_applied`, `campaign_unknown`, `campaign_draft`.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Which conversions to list.
#[derive(Debug, Clone, Default)]
pub struct ConversionFilter {
    /// In this state.
    pub state: Option<ConversionState>,
    /// Of this kind.
    pub kind: Option<ConversionKind>,
    /// Credited to this partner.
    pub partner_id: Option<PartnerId>,
    /// Of this campaign, as decided.
    pub campaign_id: Option<CampaignId>,
    /// Told by this system.
    pub source: Option<Key>,
    /// With this id there.
    pub external_id: Option<Key>,
    /// Not before this.
    pub occurred_from: Option<Timestamp>,
    /// Before this.
    pub occurred_to: Option<Timestamp>,
}

const COLUMNS: &str = "id, source, external_id, kind, state, reason, campaign_id, partner_id, code, click_id, \
    occurred_at, recorded_at, amount_minor, currency, refund_sum_minor, whole_refunds, decision, order_lines, metadata, position";

fn view(row: &Row<'_>) -> Result<(i64, ConversionView)> {
    let text = |column: usize| -> Result<Option<String>> { Ok(row.opt_text(column)?.map(str::to_owned)) };
    let amount = Money::new(row.int(12)?, row.text(13)?.parse().map_err(Fault::internal)?);
    let refunds = RefundSum { sum_minor: row.int(14)?, whole: row.int(15)? };
    let view = ConversionView {
        id: row.id(0)?,
        source: row.text(1)?.to_owned(),
        external_id: row.text(2)?.to_owned(),
        kind: row.name(3)?,
        state: row.name(4)?,
        reason: text(5)?,
        campaign_id: row.opt_id(6)?,
        partner_id: row.opt_id(7)?,
        code: text(8)?,
        click_id: text(9)?,
        occurred_at: row.time(10)?,
        recorded_at: row.time(11)?,
        amount,
        refunded_minor: refunds.totals(amount.amount_minor).refunded_minor,
        decision: u32::try_from(row.int(16)?).map_err(Fault::internal)?,
        parked: None,
        lines: row.opt_text(17)?.map(serde_json::from_str).transpose().map_err(Fault::internal)?.unwrap_or_default(),
        metadata: row.opt_text(18)?.map(serde_json::from_str).transpose().map_err(Fault::internal)?,
    };
    Ok((row.int(19)?, view))
}

pub(crate) fn not_found(id: ConversionId) -> Fault {
    Fault::new(&problems::CONVERSION_NOT_FOUND, format!("{id} is not known"))
}

/// The conversion. Fault: `conversion_not_found`.
pub fn one(reader: &Reader<'_>, id: ConversionId) -> Result<ConversionView> {
    let page = Page { limit: 1, ..Page::first(1) };
    let found = Listing::of("conversion", COLUMNS).when("id = ?", Some(&id)).page(reader, &page, view)?;
    with_parked(reader, found.items)?.pop().ok_or_else(|| not_found(id))
}

/// A page of conversions, by id.
pub fn list(reader: &Reader<'_>, filter: &ConversionFilter, page: &Page) -> Result<Paged<ConversionView>> {
    let found = Listing::of("conversion", COLUMNS)
        .when("state = ?", filter.state.map(ConversionState::as_str))
        .when("kind = ?", filter.kind.map(ConversionKind::as_str))
        .when("partner_id = ?", filter.partner_id.as_ref())
        .when("campaign_id = ?", filter.campaign_id.as_ref())
        .when("source = ?", filter.source.as_ref().map(Key::as_str))
        .when("external_id = ?", filter.external_id.as_ref().map(Key::as_str))
        .when("occurred_at >= ?", filter.occurred_from)
        .when("occurred_at < ?", filter.occurred_to)
        .page(reader, page, view)?;
    Ok(Paged { items: with_parked(reader, found.items)?, next: found.next, total: found.total })
}

/// Adds what each waits for.
fn with_parked(reader: &Reader<'_>, found: Vec<(i64, ConversionView)>) -> Result<Vec<ConversionView>> {
    let positions: Vec<i64> = found.iter().map(|(position, _)| *position).collect();
    let mut parked: std::collections::BTreeMap<i64, parking::Parked> =
        parking::waiting(reader, CONSUMER, &positions)?.into_iter().map(|parked| (parked.position, parked)).collect();
    let with = |(position, view): (i64, ConversionView)| {
        let parked = parked.remove(&position);
        let parked = parked.map(|p| ParkedView { wait_key: p.wait_key, reason: p.reason, since: p.since });
        ConversionView { parked, ..view }
    };
    Ok(found.into_iter().map(with).collect())
}

/// How a conversion came to be credited.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AttributionView {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// Where its attribution stands.
    pub state: ConversionState,
    /// Its decisions, oldest first; the last one stands.
    pub decisions: Vec<DecisionView>,
}

/// A decision about a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct DecisionView {
    /// 1, 2, 3, …
    pub decision: u32,
    /// The position of its event.
    pub position: i64,
    /// When it was made.
    pub decided_at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// What came out.
    pub state: ConversionState,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The partner who is credited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Whether it was the customer's first sale in the campaign, as far as was known.
    pub first_purchase: bool,
    /// Everyone who could have been credited, and why they won or lost.
    pub candidates: Vec<Candidate>,
}

/// A conversion's decisions at most; more is no history but a loop.
const MOST_EVENTS: usize = 10_000;

/// The numbered decisions about a conversion. Fault: `conversion_not_found`.
pub fn attribution(reader: &Reader<'_>, id: ConversionId) -> Result<AttributionView> {
    let sql = "SELECT state FROM conversion WHERE id = ?";
    let state = reader.query_one(sql, &[(&id).into()], |row| row.name(0))?.ok_or_else(|| not_found(id))?;
    let events = event_log::of_subject(reader, &id.to_string(), 0, MOST_EVENTS)?;
    let decisions = events.iter().filter_map(|event| decision(event).transpose()).collect::<Result<_>>()?;
    Ok(AttributionView { conversion_id: id, state, decisions })
}

fn decision(event: &EventRecord) -> Result<Option<DecisionView>> {
    let plain = |decision: u32, state: ConversionState| DecisionView {
        decision,
        position: event.position,
        decided_at: event.time,
        actor: event.actor.clone(),
        state,
        reason: None,
        campaign_id: None,
        partner_id: None,
        rule: None,
        first_purchase: false,
        candidates: Vec::new(),
    };
    Ok(match event.event_type.as_str() {
        Attributed::TYPE => {
            let told: Attributed = event.decode()?;
            Some(DecisionView {
                campaign_id: Some(told.campaign_id),
                partner_id: Some(told.partner_id),
                rule: Some(told.rule),
                first_purchase: told.first_purchase,
                candidates: told.candidates,
                ..plain(told.decision, ConversionState::Attributed)
            })
        }
        Unattributed::TYPE => {
            let told: Unattributed = event.decode()?;
            let (campaign_id, candidates) = (told.campaign_id, told.candidates);
            Some(DecisionView { campaign_id, candidates, ..plain(told.decision, ConversionState::Unattributed) })
        }
        Rejected::TYPE => {
            let told: Rejected = event.decode()?;
            Some(DecisionView { reason: Some(told.reason), ..plain(told.decision, ConversionState::Rejected) })
        }
        _ => None,
    })
}

/// A refund of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RefundView {
    /// The refund.
    pub id: RefundId,
    /// The system that told it.
    pub source: String,
    /// Its id there.
    pub external_id: String,
    /// What it is.
    pub kind: RefundKind,
    /// How much; absent: the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// Why, in the client's words.
    pub reason: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it became known.
    pub recorded_at: Timestamp,
    /// How far it is.
    pub state: RefundState,
    /// Why it has no effect: `refund_exceeds_conversion`, `currency_mismatch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// The refunds of a conversion, in the order of their recording. Fault: `conversion_not_found`.
pub fn refunds(reader: &Reader<'_>, conversion_id: ConversionId) -> Result<Vec<RefundView>> {
    let sql = "SELECT source, external_id FROM conversion WHERE id = ?";
    let key = reader
        .query_one(sql, &[(&conversion_id).into()], |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())))?
        .ok_or_else(|| not_found(conversion_id))?;
    let sql = "SELECT id, source, external_id, kind, amount_minor, currency, note, occurred_at, recorded_at, state, refusal \
        FROM refund WHERE conversion_source = ? AND conversion_external_id = ? ORDER BY position";
    let params: [Value<'_>; 2] = [(&key.0).into(), (&key.1).into()];
    reader.query(sql, &params, |row| {
        let currency: Option<Currency> = row.opt_text(5)?.map(str::parse).transpose().map_err(Fault::internal)?;
        let amount = row.opt_int(4)?.zip(currency).map(|(minor, currency)| Amount::new(Money::new(minor, currency)));
        Ok(RefundView {
            id: row.id(0)?,
            source: row.text(1)?.to_owned(),
            external_id: row.text(2)?.to_owned(),
            kind: row.name(3)?,
            amount: amount.transpose()?,
            reason: row.text(6)?.to_owned(),
            occurred_at: row.time(7)?,
            recorded_at: row.time(8)?,
            state: row.name(9)?,
            refusal: row.opt_text(10)?.map(str::to_owned),
        })
    })
}

/// How many facts there are, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Conversions.
    pub recorded: i64,
    /// Those that a partner is credited with.
    pub attributed: i64,
    /// Those that nobody is credited with.
    pub unattributed: i64,
    /// Those that do not count.
    pub rejected: i64,
    /// Touches.
    pub touches: i64,
}

/// Counts every fact.
pub fn counts(reader: &Reader<'_>) -> Result<Counts> {
    let mut counts = Counts::default();
    let sql = "SELECT state, CAST(COUNT(*) AS BIGINT) FROM conversion GROUP BY state ORDER BY state";
    for (state, count) in reader.query(sql, &[], |row| Ok((row.name(0)?, row.int(1)?)))? {
        counts.recorded += count;
        match state {
            ConversionState::Recorded => {}
            ConversionState::Attributed => counts.attributed = count,
            ConversionState::Unattributed => counts.unattributed = count,
            ConversionState::Rejected => counts.rejected = count,
        }
    }
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM touch";
    counts.touches = reader.query_one(sql, &[], |row| row.int(0))?.unwrap_or(0);
    Ok(counts)
}
