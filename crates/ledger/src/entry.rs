//! Accounts, the kinds of entries, and posting.

use kernel::{CampaignId, Currency, Fault, PartnerId, Result, digest16, hex};
use platform::{OnDuplicate, Tx, Value};

kernel::names! {
    /// The accounts; per currency, and per partner, campaign or gateway as said.
    pub enum Account {
        /// What commissions cost; per campaign.
        CommissionExpense = "commission_expense",
        /// Accrued, not approved yet; per partner.
        PartnerPending = "partner_pending",
        /// Approved, not in a payout; per partner; may be negative after a clawback.
        PartnerPayable = "partner_payable",
        /// In a payout that has no outcome yet; per partner.
        PartnerInPayout = "partner_in_payout",
        /// Money that left; per gateway, and each posting names the partner.
        Cash = "cash",
        /// What adjustments cost.
        AdjustmentExpense = "adjustment_expense",
        /// Negative balances given up.
        WriteOff = "write_off",
    }
}

kernel::names! {
    /// The kinds of entries; each has one account on each side.
    pub enum EntryKind {
        /// A commission was accrued.
        Accrued = "accrued",
        /// An accrual was undone: a later decision replaced it.
        Undone = "undone",
        /// A pending commission was rejected.
        Rejected = "rejected",
        /// A refund before approval.
        ReversedPending = "reversed_pending",
        /// A refund before approval was won back.
        RestoredPending = "restored_pending",
        /// A commission was approved.
        Approved = "approved",
        /// A refund after approval: a clawback.
        Reversed = "reversed",
        /// A clawback was won back.
        Restored = "restored",
        /// An adjustment in the partner's favour.
        AdjustedUp = "adjusted_up",
        /// An adjustment against the partner.
        AdjustedDown = "adjusted_down",
        /// A negative balance was given up.
        WrittenOff = "written_off",
        /// A payout item was created.
        PayoutCreated = "payout_created",
        /// A payout item failed or was cancelled.
        PayoutReleased = "payout_released",
        /// A payout item was paid.
        Settled = "settled",
        /// A paid item came back.
        Returned = "returned",
    }
}

impl EntryKind {
    /// The account that is debited and the one that is credited (rules section 8).
    pub const fn sides(self) -> (Account, Account) {
        use Account as A;
        match self {
            Self::Accrued | Self::RestoredPending => (A::CommissionExpense, A::PartnerPending),
            Self::Undone | Self::Rejected | Self::ReversedPending => (A::PartnerPending, A::CommissionExpense),
            Self::Approved => (A::PartnerPending, A::PartnerPayable),
            Self::Reversed => (A::PartnerPayable, A::CommissionExpense),
            Self::Restored => (A::CommissionExpense, A::PartnerPayable),
            Self::AdjustedUp => (A::AdjustmentExpense, A::PartnerPayable),
            Self::AdjustedDown => (A::PartnerPayable, A::AdjustmentExpense),
            Self::WrittenOff => (A::WriteOff, A::PartnerPayable),
            Self::PayoutCreated => (A::PartnerPayable, A::PartnerInPayout),
            Self::PayoutReleased => (A::PartnerInPayout, A::PartnerPayable),
            Self::Settled => (A::PartnerInPayout, A::Cash),
            Self::Returned => (A::Cash, A::PartnerPayable),
        }
    }

    /// What an entry of this kind adds to a partner's `account`, as +1, 0 or -1: a credit adds, a debit takes. For
    /// `Cash` a debit of the account is money that came back, so "paid" is its credit too.
    pub fn sign(self, account: Account) -> i64 {
        let (debit, credit) = self.sides();
        i64::from(credit == account) - i64::from(debit == account)
    }
}

/// An entry to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Decides both accounts.
    pub kind: EntryKind,
    /// The partner that it concerns.
    pub partner_id: PartnerId,
    /// The campaign, where one side is its expense.
    pub campaign_id: Option<CampaignId>,
    /// The gateway, where one side is its cash.
    pub gateway: Option<String>,
    /// What it is about: the bytes of a commission's, payout item's or adjustment's id.
    pub source_id: [u8; 16],
    /// Minor units, above zero.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl Entry {
    /// Digest over the whole entry, 32 hexadecimal digits; it goes into the event that tells the entry, so that the
    /// chain over events covers the ledger.
    pub fn digest(&self) -> String {
        hex(&digest16(&[
            self.kind.as_str().as_bytes(),
            self.partner_id.as_bytes(),
            self.campaign_id.as_ref().map_or(&[][..], |id| id.as_bytes()),
            self.gateway.as_deref().unwrap_or_default().as_bytes(),
            &self.source_id,
            &self.amount_minor.to_be_bytes(),
            self.currency.as_str().as_bytes(),
        ]))
    }
}

/// Posts entries, each under the position of the event that tells it and its line in that event. Fault: `internal` when
/// an amount is not above zero, which is a defect of the caller.
pub fn post(tx: &mut Tx<'_>, entries: &[(i64, i64, Entry)]) -> Result<()> {
    if let Some((position, _, entry)) = entries.iter().find(|(_, _, entry)| entry.amount_minor <= 0) {
        return Err(Fault::internal(format!("entry {} of {} at {position}", entry.kind, entry.amount_minor)));
    }
    let now = tx.now();
    let rows: Vec<[Value<'_>; 10]> = entries
        .iter()
        .map(|(position, line, entry)| {
            [
                (*position).into(),
                (*line).into(),
                entry.kind.as_str().into(),
                (&entry.partner_id).into(),
                entry.campaign_id.as_ref().into(),
                entry.gateway.as_deref().into(),
                (&entry.source_id).into(),
                entry.amount_minor.into(),
                entry.currency.as_str().into(),
                now.into(),
            ]
        })
        .collect();
    let columns = [
        "position",
        "line",
        "kind",
        "partner_id",
        "campaign_id",
        "gateway",
        "source_id",
        "amount_minor",
        "currency",
        "posted_at",
    ];
    tx.insert("ledger_entry", columns, &rows, OnDuplicate::Fail)
}
