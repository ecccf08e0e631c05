//! What payments shows: batches, items, adjustments.

use events::payments::{AdjustmentState, PayoutItemState, PayoutState};
use kernel::{
    AdjustmentId, CommissionId, Currency, Fault, Money, PartnerId, PayoutId, PayoutItemId, Result, Timestamp,
};
use platform::{Listing, Page, Paged, Reader, Row};
use serde::{Deserialize, Serialize};

use crate::adjust::AdjustmentKind;
use crate::model::CarriedReason;
use crate::problems;

/// A payout batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PayoutView {
    /// The batch. With `dry_run` nothing was stored and the id means nothing.
    pub id: PayoutId,
    /// Whether this is only what a batch would be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How far it is.
    pub state: PayoutState,
    /// What is payable at this instant is paid, less what was taken back since.
    pub cut_off: Timestamp,
    /// The last position of the log that was known at the cut-off.
    pub cut_off_position: i64,
    /// The sum of the items.
    pub total: Money,
    /// The number of items.
    pub item_count: i64,
    /// The gateway that it goes to.
    pub gateway: String,
    /// Digest over the frozen content: currency, cut-off and, by partner, amounts and commissions.
    pub content_digest: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Who approved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<Timestamp>,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Grows with every change.
    pub version: i64,
    /// One item per partner; left out in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<PayoutItemView>,
    /// Partners that are not part of it, and why; left out in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<CarriedView>,
}

/// A partner that a batch leaves out: its balance is carried forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CarriedView {
    /// The partner.
    pub partner_id: PartnerId,
    /// Why.
    pub reason: CarriedReason,
    /// What would be paid otherwise; zero or less when nothing is payable.
    pub amount: Money,
}

/// One partner's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PayoutItemView {
    /// The item: the gateway's idempotency key.
    pub id: PayoutItemId,
    /// Its batch.
    pub payout_id: PayoutId,
    /// The partner.
    pub partner_id: PartnerId,
    /// How much, above zero.
    pub amount: Money,
    /// How far it is.
    pub state: PayoutItemState,
    /// The gateway that pays it.
    pub gateway: String,
    /// Only these commissions; empty: everything payable at the cut-off.
    pub commission_ids: Vec<CommissionId>,
    /// How often the gateway answered without an outcome.
    pub attempts: i64,
    /// When the gateway is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Why it failed or came back, in the gateway's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// An adjustment of a partner's balance by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AdjustmentView {
    /// The adjustment.
    pub id: AdjustmentId,
    /// Whether it waits or is posted.
    pub state: AdjustmentState,
    /// What it is.
    pub kind: AdjustmentKind,
    /// The partner.
    pub partner_id: PartnerId,
    /// What is added to the partner's balance; negative: taken.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub created_at: Timestamp,
    /// The second person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<Timestamp>,
    /// Grows with every change.
    pub version: i64,
}

/// Which batches.
#[derive(Debug, Clone, Default)]
pub struct PayoutFilter {
    /// In this state.
    pub state: Option<PayoutState>,
    /// In this currency.
    pub currency: Option<Currency>,
    /// Made at or after.
    pub created_from: Option<Timestamp>,
    /// Made before.
    pub created_to: Option<Timestamp>,
}

/// Which adjustments.
#[derive(Debug, Clone, Default)]
pub struct AdjustmentFilter {
    /// In this state.
    pub state: Option<AdjustmentState>,
    /// Of this partner.
    pub partner_id: Option<PartnerId>,
    /// Made at or after.
    pub created_from: Option<Timestamp>,
    /// Made before.
    pub created_to: Option<Timestamp>,
}

const PAYOUT: &str = "id, state, currency, cut_off, cut_off_position, total_minor, item_count, gateway, content_digest, \
    created_by, created_at, approved_by, approved_at, updated_at, version";

fn payout_row(row: &Row<'_>) -> Result<PayoutView> {
    Ok(PayoutView {
        id: row.id(0)?,
        dry_run: false,
        state: row.name(1)?,
        cut_off: row.time(3)?,
        cut_off_position: row.int(4)?,
        total: money(row, 5, 2)?,
        item_count: row.int(6)?,
        gateway: row.text(7)?.to_owned(),
        content_digest: row.text(8)?.to_owned(),
        created_by: row.text(9)?.to_owned(),
        created_at: row.time(10)?,
        approved_by: row.opt_text(11)?.map(str::to_owned),
        approved_at: row.opt_time(12)?,
        updated_at: row.time(13)?,
        version: row.int(14)?,
        items: Vec::new(),
        carried: Vec::new(),
    })
}

fn money(row: &Row<'_>, amount: usize, currency: usize) -> Result<Money> {
    Ok(Money::new(row.int(amount)?, row.text(currency)?.parse().map_err(Fault::internal)?))
}

/// The columns of an item, for `item_row`.
pub(crate) const ITEM: &str = "id, payout_id, partner_id, amount_minor, currency, state, gateway, commission_ids, attempts, \
    due_at, reason, created_at, updated_at";

pub(crate) fn item_row(row: &Row<'_>) -> Result<PayoutItemView> {
    Ok(PayoutItemView {
        id: row.id(0)?,
        payout_id: row.id(1)?,
        partner_id: row.id(2)?,
        amount: money(row, 3, 4)?,
        state: row.name(5)?,
        gateway: row.text(6)?.to_owned(),
        commission_ids: row.json(7)?,
        attempts: row.int(8)?,
        due_at: row.opt_time(9)?,
        reason: row.opt_text(10)?.map(str::to_owned),
        created_at: row.time(11)?,
        updated_at: row.time(12)?,
    })
}

const ADJUSTMENT: &str = "id, state, kind, partner_id, amount_minor, currency, reason, requested_by, created_at, approved_by, \
    approved_at, version";

fn adjustment_row(row: &Row<'_>) -> Result<AdjustmentView> {
    Ok(AdjustmentView {
        id: row.id(0)?,
        state: row.name(1)?,
        kind: row.name(2)?,
        partner_id: row.id(3)?,
        amount: money(row, 4, 5)?,
        reason: row.text(6)?.to_owned(),
        requested_by: row.text(7)?.to_owned(),
        created_at: row.time(8)?,
        approved_by: row.opt_text(9)?.map(str::to_owned),
        approved_at: row.opt_time(10)?,
        version: row.int(11)?,
    })
}

/// A batch with its items and who was left out. Fault: `payout_not_found`.
pub fn one(reader: &Reader<'_>, id: PayoutId) -> Result<PayoutView> {
    let mut view = payout(reader, id)?;
    let sql = "SELECT carried FROM payout WHERE id = ?";
    view.carried = reader.query_one(sql, &[(&id).into()], |row| row.json(0))?.unwrap_or_default();
    view.items = items_of(reader, id)?;
    Ok(view)
}

/// A batch alone. Fault: `payout_not_found`.
pub(crate) fn payout(reader: &Reader<'_>, id: PayoutId) -> Result<PayoutView> {
    let found = reader.query_one(&format!("SELECT {PAYOUT} FROM payout WHERE id = ?"), &[(&id).into()], payout_row)?;
    found.ok_or_else(|| Fault::new(&problems::PAYOUT_NOT_FOUND, format!("there is no payout {id}")))
}

/// All items of a batch, in the order of partners.
pub(crate) fn items_of(reader: &Reader<'_>, id: PayoutId) -> Result<Vec<PayoutItemView>> {
    let sql = format!("SELECT {ITEM} FROM payout_item WHERE payout_id = ? ORDER BY id");
    reader.query(&sql, &[(&id).into()], item_row)
}

/// Batches, without their items.
pub fn list(reader: &Reader<'_>, filter: &PayoutFilter, page: &Page) -> Result<Paged<PayoutView>> {
    Listing::of("payout", PAYOUT)
        .when("state = ?", filter.state.map(PayoutState::as_str))
        .when("currency = ?", filter.currency.as_ref().map(Currency::as_str))
        .when("created_at >= ?", filter.created_from)
        .when("created_at < ?", filter.created_to)
        .page(reader, page, payout_row)
}

/// The items of a batch. Fault: `payout_not_found`.
pub fn items(reader: &Reader<'_>, id: PayoutId, page: &Page) -> Result<Paged<PayoutItemView>> {
    payout(reader, id)?;
    Listing::of("payout_item", ITEM).when("payout_id = ?", Some(&id)).page(reader, page, item_row)
}

/// An adjustment. Fault: `adjustment_not_found`.
pub fn adjustment(reader: &Reader<'_>, id: AdjustmentId) -> Result<AdjustmentView> {
    let sql = format!("SELECT {ADJUSTMENT} FROM adjustment WHERE id = ?");
    let found = reader.query_one(&sql, &[(&id).into()], adjustment_row)?;
    found.ok_or_else(|| Fault::new(&problems::ADJUSTMENT_NOT_FOUND, format!("there is no adjustment {id}")))
}

/// Adjustments.
pub fn adjustments(reader: &Reader<'_>, filter: &AdjustmentFilter, page: &Page) -> Result<Paged<AdjustmentView>> {
    Listing::of("adjustment", ADJUSTMENT)
        .when("state = ?", filter.state.map(AdjustmentState::as_str))
        .when("partner_id = ?", filter.partner_id.as_ref())
        .when("created_at >= ?", filter.created_from)
        .when("created_at < ?", filter.created_to)
        .page(reader, page, adjustment_row)
}
