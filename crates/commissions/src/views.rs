//! What commissions look like from outside.

use std::collections::BTreeMap;

use events::commissions::CommissionState;
use kernel::{
    CampaignId, CommissionId, ConversionId, Currency, Fault, PartnerId, PayoutItemId, Result, Timestamp, hex,
};
use platform::{Listing, Page, Paged, Reader, Value};
use serde::Serialize;

use crate::commission::{self, COLUMNS, Commission};
use crate::problems;

/// What a conversion earns for a partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CommissionView {
    /// The commission.
    pub id: CommissionId,
    /// Its conversion.
    pub conversion_id: ConversionId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// How far it is on its way to the partner.
    pub state: CommissionState,
    /// Whether it waits for a person's approval: its hold has ended above the automatic limit.
    pub queued: bool,
    /// Why it is held or was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The currency of the amounts.
    pub currency: Currency,
    /// What the terms give, minor units, before refunds.
    pub gross_minor: i64,
    /// What is left after refunds, minor units; of a rejected or superseded one: what was left when it ended.
    pub kept_minor: i64,
    /// Whether a first-purchase bonus is part of it.
    pub bonus: bool,
    /// The version of the campaign's terms; 0: one-off terms that came with the conversion.
    pub terms_version: u32,
    /// The position of the attribution that it was computed from.
    pub decision_position: i64,
    /// Digest of the inputs, 32 hexadecimal digits.
    pub inputs_digest: String,
    /// The end of the hold.
    pub hold_ends_at: Timestamp,
    /// The payout item that pays it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payout_item_id: Option<PayoutItemId>,
    /// When it was computed.
    pub created_at: Timestamp,
    /// The position of the last event about it.
    pub position: i64,
}

impl From<Commission> for CommissionView {
    fn from(row: Commission) -> Self {
        Self {
            id: row.id,
            conversion_id: row.conversion_id,
            partner_id: row.partner_id,
            campaign_id: row.campaign_id,
            state: row.state,
            queued: row.queued && row.state == CommissionState::Pending,
            reason: row.reason,
            currency: row.currency,
            gross_minor: row.gross_minor,
            kept_minor: row.kept_minor,
            bonus: row.bonus_customer.is_some(),
            terms_version: row.terms_version,
            decision_position: row.decision_position,
            inputs_digest: hex(&row.inputs_digest),
            hold_ends_at: row.hold_ends_at,
            payout_item_id: row.payout_item_id,
            created_at: row.created_at,
            position: row.position,
        }
    }
}

/// Which commissions to list; what is none does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommissionFilter {
    /// In this state.
    pub state: Option<CommissionState>,
    /// Of this partner.
    pub partner_id: Option<PartnerId>,
    /// Of this campaign.
    pub campaign_id: Option<CampaignId>,
    /// Of this conversion.
    pub conversion_id: Option<ConversionId>,
    /// Waiting for a person's approval, or not.
    pub queued: Option<bool>,
    /// Computed at or after this instant.
    pub created_from: Option<Timestamp>,
    /// Computed before this instant.
    pub created_to: Option<Timestamp>,
}

/// The commission. Fault: `commission_not_found`.
pub fn one(reader: &Reader<'_>, id: CommissionId) -> Result<CommissionView> {
    row(reader, id).map(CommissionView::from)
}

pub(crate) fn row(reader: &Reader<'_>, id: CommissionId) -> Result<Commission> {
    let found = commission::by_id(reader, &[id])?.pop();
    found.ok_or_else(|| Fault::new(&problems::NOT_FOUND, format!("there is no commission {id}")))
}

/// A page of commissions.
pub fn list(reader: &Reader<'_>, filter: &CommissionFilter, page: &Page) -> Result<Paged<CommissionView>> {
    let queued = |wanted: bool| filter.queued.filter(|queued| *queued == wanted).map(|_| Value::from("pending"));
    Listing::of("commission", COLUMNS)
        .when("conversion_id = ?", filter.conversion_id.as_ref())
        .when("partner_id = ?", filter.partner_id.as_ref())
        .when("campaign_id = ?", filter.campaign_id.as_ref())
        .when("state = ?", filter.state.map(CommissionState::as_str))
        .when("(queued = 1 AND state = ?)", queued(true))
        .when("(queued = 0 OR state <> ?)", queued(false))
        .when("created_at >= ?", filter.created_from)
        .when("created_at < ?", filter.created_to)
        .page(reader, page, |row| Commission::read(row).map(CommissionView::from))
}

/// The live commissions of these conversions; one without a live commission is missing.
pub fn live_of(reader: &Reader<'_>, conversions: &[ConversionId]) -> Result<BTreeMap<ConversionId, CommissionView>> {
    let rows = commission::by_conversion(reader, conversions)?;
    let live = rows.into_iter().filter(|row| crate::model::is_live(row.state));
    Ok(live.map(|row| (row.conversion_id, row.into())).collect())
}
