//! What `commissions` tells: what is earned, what is kept of it, and how far it is on its way to the partner.

use kernel::{
    CampaignId, CommissionId, ConversionId, Currency, Descriptor, PartnerId, PayoutItemId, Timestamp, describe,
};
use serde::{Deserialize, Serialize};

use crate::{event, fixed};

kernel::names! {
    /// The life of a commission.
    pub enum CommissionState {
        /// The hold runs, or it waits for a person's approval.
        Pending = "pending",
        /// A person stopped it for now.
        Held = "held",
        /// Payable.
        Approved = "approved",
        /// Part of a payout.
        InPayout = "in_payout",
        /// Paid.
        Paid = "paid",
        /// Refused; nothing is owed.
        Rejected = "rejected",
        /// Replaced by a later decision on the same conversion.
        Superseded = "superseded",
    }
}

/// An entry of the ledger as its event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EntryNote {
    /// The kind of entry.
    pub kind: String,
    /// Minor units, above zero.
    pub amount_minor: i64,
    /// Digest over the whole entry, so that the chain over events covers the ledger.
    pub digest: String,
}

fn note() -> EntryNote {
    EntryNote { kind: "accrued".to_owned(), amount_minor: 244, digest: "00112233445566778899aabbccddeeff".to_owned() }
}

/// A commission was computed and accrued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accrued {
    /// The commission.
    pub commission_id: CommissionId,
    /// Its conversion.
    pub conversion_id: ConversionId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The currency.
    pub currency: Currency,
    /// The version of the campaign's terms; 0: one-off terms.
    pub terms_version: u32,
    /// What the terms give, minor units, before refunds.
    pub gross_minor: i64,
    /// Whether a first-purchase bonus is part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bonus: bool,
    /// The position of the decision that it was computed from.
    pub decision_position: i64,
    /// Digest of the inputs, 32 hexadecimal digits.
    pub inputs_digest: String,
    /// The end of the hold.
    pub hold_ends_at: Timestamp,
    /// When the conversion occurred.
    pub occurred_at: Timestamp,
    /// The ledger's entries.
    pub entries: Vec<EntryNote>,
}
event!(
    Accrued,
    "commissions.accrued.v1",
    "commission",
    commission_id,
    "A commission was computed and accrued.",
    Accrued {
        commission_id: fixed::id(7),
        conversion_id: fixed::id(5),
        campaign_id: fixed::id(2),
        partner_id: fixed::id(1),
        currency: Currency::USD,
        terms_version: 1,
        gross_minor: 244,
        bonus: true,
        decision_position: 12,
        inputs_digest: "00112233445566778899aabbccddeeff".to_owned(),
        hold_ends_at: fixed::time(2_592_061),
        occurred_at: fixed::time(60),
        entries: vec![note()],
    }
);

/// What is kept of a commission changed: a refund, a chargeback, or one that was won back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reversed {
    /// The commission.
    pub commission_id: CommissionId,
    /// Its conversion.
    pub conversion_id: ConversionId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The currency.
    pub currency: Currency,
    /// What is kept now, minor units.
    pub kept_minor: i64,
    /// What was taken back by this change, minor units; negative when it was restored.
    pub reversed_minor: i64,
    /// The state that it is in, and stays in.
    pub state: CommissionState,
    /// Whether it was approved already: then the partner's payable balance changed.
    pub after_approval: bool,
    /// The position of the event that tells the refunds.
    pub refund_position: i64,
    /// The ledger's entries.
    pub entries: Vec<EntryNote>,
}
event!(
    Reversed,
    "commissions.reversed.v1",
    "commission",
    commission_id,
    "What is kept of a commission changed.",
    Reversed {
        commission_id: fixed::id(7),
        conversion_id: fixed::id(5),
        campaign_id: fixed::id(2),
        partner_id: fixed::id(1),
        currency: Currency::USD,
        kept_minor: 122,
        reversed_minor: 122,
        state: CommissionState::Pending,
        after_approval: false,
        refund_position: 14,
        entries: vec![note()],
    }
);

macro_rules! commission_change {
    ($($name:ident, $event_type:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The commission.
            pub commission_id: CommissionId,
            /// Its conversion.
            pub conversion_id: ConversionId,
            /// The campaign.
            pub campaign_id: CampaignId,
            /// The partner.
            pub partner_id: PartnerId,
            /// The currency.
            pub currency: Currency,
            /// The state before; absent: it was refused before anything was accrued.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub from_state: Option<CommissionState>,
            /// What the terms gave, minor units, before refunds.
            pub gross_minor: i64,
            /// What was kept of it until this change, minor units.
            pub kept_minor: i64,
            /// Why, in a stable word or in an operator's words.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<String>,
            /// The payout item that it is part of.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub payout_item_id: Option<PayoutItemId>,
            /// The ledger's entries.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub entries: Vec<EntryNote>,
        }
        event!($name, $event_type, "commission", commission_id, $meaning, $name {
            commission_id: fixed::id(7),
            conversion_id: fixed::id(5),
            campaign_id: fixed::id(2),
            partner_id: fixed::id(1),
            currency: Currency::USD,
            from_state: Some(CommissionState::Pending),
            gross_minor: 244,
            kept_minor: 244,
            reason: None,
            payout_item_id: None,
            entries: Vec::new(),
        });
    )*};
}

commission_change! {
    Superseded, "commissions.superseded.v1", "A commission was replaced by a later decision; its accrual and reversals are undone.";
    Queued, "commissions.queued.v1", "The hold ended above the automatic limit: a person decides.";
    Held, "commissions.held.v1", "A person stopped a commission for now.";
    Released, "commissions.released.v1", "A held commission goes on.";
    Approved, "commissions.approved.v1", "A commission is payable.";
    Rejected, "commissions.rejected.v1", "A commission was refused, by a person or by an exhausted budget; nothing is owed.";
    PayoutStarted, "commissions.payout_started.v1", "A commission is part of a payout.";
    PaidOut, "commissions.paid.v1", "A commission was paid.";
    PayoutUndone, "commissions.payout_undone.v1", "A commission's payout failed, was cancelled or came back: it is payable again.";
    LateFactNoted, "commissions.late_fact_noted.v1", "A late fact would have changed an approved commission; the decision stands.";
}

/// This context's rows of the catalogue.
pub fn catalogue() -> Vec<Descriptor> {
    vec![
        describe::<Accrued>(),
        describe::<Reversed>(),
        describe::<Superseded>(),
        describe::<Queued>(),
        describe::<Held>(),
        describe::<Released>(),
        describe::<Approved>(),
        describe::<Rejected>(),
        describe::<PayoutStarted>(),
        describe::<PaidOut>(),
        describe::<PayoutUndone>(),
        describe::<LateFactNoted>(),
    ]
}
