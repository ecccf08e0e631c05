//! A commission as its row holds it: loading and storing, set-based. It must not know why a row changes.

use events::commissions::CommissionState;
use kernel::{
    CampaignId, CommissionId, ConversionId, Currency, Fault, PartnerId, PayoutItemId, Result, Timestamp, digest16,
};
use platform::{OnDuplicate, Reader, Row, Tx, Value};

use crate::model::Position;

/// A commission whose partner is suspended is due at this instant: never, until the partner's state changes.
pub(crate) const WAITS_FOR_PARTNER: Timestamp = Timestamp::from_micros(i64::MAX);

/// A customer in a campaign: whose first purchase a bonus is for.
pub(crate) type BonusKey = (CampaignId, [u8; 16]);

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commission {
    pub(crate) id: CommissionId,
    pub(crate) conversion_id: ConversionId,
    pub(crate) partner_id: PartnerId,
    pub(crate) campaign_id: CampaignId,
    pub(crate) currency: Currency,
    /// 0: one-off terms that came with the conversion.
    pub(crate) terms_version: u32,
    pub(crate) gross_minor: i64,
    /// What is left after refunds; of a rejected or superseded one: what was left when it ended.
    pub(crate) kept_minor: i64,
    /// What was left at the end of the hold, when refunds have come since and the decision is still to be made.
    pub(crate) kept_at_hold_end_minor: Option<i64>,
    /// The customer whose first-purchase bonus is part of it.
    pub(crate) bonus_customer: Option<[u8; 16]>,
    /// Approved automatically up to here, as its terms say; none: a person decides.
    pub(crate) auto_limit_minor: Option<i64>,
    pub(crate) state: CommissionState,
    /// The hold has ended above the automatic limit: a person decides.
    pub(crate) queued: bool,
    /// Why it is held or was rejected.
    pub(crate) reason: Option<String>,
    pub(crate) decision_position: i64,
    pub(crate) refund_position: i64,
    pub(crate) inputs_digest: [u8; 16],
    pub(crate) hold_ends_at: Timestamp,
    /// When the decision at the end of the hold is due; none when it was made, or does not come.
    pub(crate) due_at: Option<Timestamp>,
    /// The event since which it is payable.
    pub(crate) approved_position: Option<i64>,
    pub(crate) payout_item_id: Option<PayoutItemId>,
    /// The last event about it.
    pub(crate) position: i64,
    pub(crate) created_at: Timestamp,
}

/// The columns that [`Commission::read`] reads, from column 0.
pub(crate) const COLUMNS: &str = "id, conversion_id, partner_id, campaign_id, currency, terms_version, gross_minor, \
    kept_minor, bonus_customer, auto_limit_minor, state, queued, reason, decision_position, refund_position, inputs_digest, \
    hold_ends_at, due_at, approved_position, payout_item_id, position, created_at, kept_at_hold_end_minor";

impl Commission {
    /// Reads a row of [`COLUMNS`].
    pub(crate) fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.id(0)?,
            conversion_id: row.id(1)?,
            partner_id: row.id(2)?,
            campaign_id: row.id(3)?,
            currency: row.text(4)?.parse().map_err(Fault::internal)?,
            terms_version: u32::try_from(row.int(5)?).map_err(Fault::internal)?,
            gross_minor: row.int(6)?,
            kept_minor: row.int(7)?,
            bonus_customer: row.opt_bytes16(8)?,
            auto_limit_minor: row.opt_int(9)?,
            state: row.name(10)?,
            queued: row.int(11)? != 0,
            reason: row.opt_text(12)?.map(str::to_owned),
            decision_position: row.int(13)?,
            refund_position: row.int(14)?,
            inputs_digest: row.bytes16(15)?,
            hold_ends_at: row.time(16)?,
            due_at: row.opt_time(17)?,
            approved_position: row.opt_int(18)?,
            payout_item_id: row.opt_id(19)?,
            position: row.int(20)?,
            created_at: row.time(21)?,
            kept_at_hold_end_minor: row.opt_int(22)?,
        })
    }

    /// The bonus that is part of it.
    pub(crate) fn bonus_key(&self) -> Option<BonusKey> {
        Some((self.campaign_id, self.bonus_customer?))
    }

    /// What it has in the books.
    pub(crate) const fn posted(&self) -> Position {
        Position { gross_minor: self.gross_minor, kept_minor: self.kept_minor }
    }
}

/// Digest over what a commission is computed from: the decision with its refunds, the version of terms, and whether the
/// bonus was there to be earned.
pub(crate) fn inputs_digest(decision_position: i64, payload: &str, terms_version: u32, bonus: bool) -> [u8; 16] {
    digest16(&[&decision_position.to_be_bytes(), payload.as_bytes(), &terms_version.to_be_bytes(), &[u8::from(bonus)]])
}

/// The commissions with these ids, by id; unknown ids are missing.
pub(crate) fn by_id(reader: &Reader<'_>, ids: &[CommissionId]) -> Result<Vec<Commission>> {
    let keys: Vec<[Value<'_>; 1]> = ids.iter().map(|id| [id.into()]).collect();
    let sql = format!("SELECT {COLUMNS} FROM commission WHERE id IN (?*) ORDER BY id");
    reader.query_in(&sql, &[], &keys, Commission::read)
}

/// All commissions of these conversions, superseded and rejected ones included.
pub(crate) fn by_conversion(reader: &Reader<'_>, ids: &[ConversionId]) -> Result<Vec<Commission>> {
    let keys: Vec<[Value<'_>; 1]> = ids.iter().map(|id| [id.into()]).collect();
    let sql = format!("SELECT {COLUMNS} FROM commission WHERE conversion_id IN (?*) ORDER BY id");
    reader.query_in(&sql, &[], &keys, Commission::read)
}

/// Writes new rows.
pub(crate) fn insert(tx: &mut Tx<'_>, commissions: &[&Commission]) -> Result<()> {
    let rows: Vec<[Value<'_>; 23]> = commissions
        .iter()
        .map(|c| {
            [
                (&c.id).into(),
                (&c.conversion_id).into(),
                (&c.partner_id).into(),
                (&c.campaign_id).into(),
                c.currency.as_str().into(),
                i64::from(c.terms_version).into(),
                c.gross_minor.into(),
                c.kept_minor.into(),
                c.bonus_customer.as_ref().into(),
                c.auto_limit_minor.into(),
                c.state.as_str().into(),
                i64::from(c.queued).into(),
                c.reason.as_deref().into(),
                c.decision_position.into(),
                c.refund_position.into(),
                (&c.inputs_digest).into(),
                c.hold_ends_at.into(),
                c.due_at.into(),
                c.approved_position.into(),
                c.payout_item_id.as_ref().into(),
                c.position.into(),
                c.created_at.into(),
                c.kept_at_hold_end_minor.into(),
            ]
        })
        .collect();
    let columns = [
        "id",
        "conversion_id",
        "partner_id",
        "campaign_id",
        "currency",
        "terms_version",
        "gross_minor",
        "kept_minor",
        "bonus_customer",
        "auto_limit_minor",
        "state",
        "queued",
        "reason",
        "decision_position",
        "refund_position",
        "inputs_digest",
        "hold_ends_at",
        "due_at",
        "approved_position",
        "payout_item_id",
        "position",
        "created_at",
        "kept_at_hold_end_minor",
    ];
    tx.insert("commission", columns, &rows, OnDuplicate::Fail)
}

/// Stores what can change after the accrual.
pub(crate) fn update(tx: &mut Tx<'_>, commissions: &[&Commission]) -> Result<()> {
    let set = [
        "kept_minor",
        "state",
        "queued",
        "reason",
        "refund_position",
        "due_at",
        "approved_position",
        "payout_item_id",
        "position",
        "kept_at_hold_end_minor",
    ];
    let rows: Vec<[Value<'_>; 11]> = commissions
        .iter()
        .map(|c| {
            [
                c.kept_minor.into(),
                c.state.as_str().into(),
                i64::from(c.queued).into(),
                c.reason.as_deref().into(),
                c.refund_position.into(),
                c.due_at.into(),
                c.approved_position.into(),
                c.payout_item_id.as_ref().into(),
                c.position.into(),
                c.kept_at_hold_end_minor.into(),
                (&c.id).into(),
            ]
        })
        .collect();
    tx.update_many("commission", &set, &["id"], &rows).map(|_| ())
}
