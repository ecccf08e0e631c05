//! What `payments` tells: payout batches, the fate of their items, and adjustments.

use kernel::{
    AdjustmentId, CommissionId, Currency, Descriptor, Money, PartnerId, PayoutId, PayoutItemId, Timestamp, describe,
};
use serde::{Deserialize, Serialize};

use crate::commissions::EntryNote;
use crate::{event, fixed};

kernel::names! {
    /// The life of a payout batch.
    pub enum PayoutState {
        /// Frozen, waits for approval.
        Draft = "draft",
        /// Approved, waits for submission.
        Approved = "approved",
        /// With the gateway.
        Submitted = "submitted",
        /// Every item has its outcome.
        Completed = "completed",
        /// Given up before submission.
        Cancelled = "cancelled",
    }
}

kernel::names! {
    /// The life of a payout item.
    pub enum PayoutItemState {
        /// Waits for submission.
        Pending = "pending",
        /// With the gateway.
        Submitted = "submitted",
        /// The gateway did not answer; it is asked again, never paid again.
        Unknown = "unknown",
        /// Paid.
        Settled = "settled",
        /// Refused by the gateway; payable again.
        Failed = "failed",
        /// Paid and come back; payable again.
        Returned = "returned",
        /// Given up before submission; payable again.
        Cancelled = "cancelled",
    }
}

kernel::names! {
    /// The life of an adjustment.
    pub enum AdjustmentState {
        /// Waits for a second person.
        Requested = "requested",
        /// Posted.
        Approved = "approved",
    }
}

/// One partner's part of a payout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PayoutLine {
    /// The item: the gateway's idempotency key.
    pub payout_item_id: PayoutItemId,
    /// The partner.
    pub partner_id: PartnerId,
    /// Minor units, above zero.
    pub amount_minor: i64,
    /// Only these commissions; empty: everything payable at the cut-off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commission_ids: Vec<CommissionId>,
    /// The ledger's entries.
    pub entries: Vec<EntryNote>,
}

/// A payout batch was created and frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PayoutCreated {
    /// The batch.
    pub payout_id: PayoutId,
    /// The currency.
    pub currency: Currency,
    /// What was payable at this instant is paid.
    pub cut_off: Timestamp,
    /// The last position of the log that the batch has seen.
    pub cut_off_position: i64,
    /// Digest over the frozen content.
    pub content_digest: String,
    /// One line per partner.
    pub items: Vec<PayoutLine>,
}
event!(
    PayoutCreated,
    "payments.payout_created.v1",
    "payout",
    payout_id,
    "A payout batch was created and frozen.",
    PayoutCreated {
        payout_id: fixed::id(8),
        currency: Currency::USD,
        cut_off: fixed::time(0),
        cut_off_position: 99,
        content_digest: "00112233445566778899aabbccddeeff".to_owned(),
        items: vec![PayoutLine {
            payout_item_id: fixed::id(9),
            partner_id: fixed::id(1),
            amount_minor: 244,
            commission_ids: Vec::new(),
            entries: Vec::new(),
        }],
    }
);

macro_rules! payout_change {
    ($($name:ident, $event_type:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The batch.
            pub payout_id: PayoutId,
            /// Digest over the frozen content.
            pub content_digest: String,
        }
        event!($name, $event_type, "payout", payout_id, $meaning, $name {
            payout_id: fixed::id(8),
            content_digest: "00112233445566778899aabbccddeeff".to_owned(),
        });
    )*};
}

payout_change! {
    PayoutApproved, "payments.payout_approved.v1", "A payout batch was approved.";
    PayoutSubmitted, "payments.payout_submitted.v1", "A payout batch goes to the gateway.";
    PayoutCompleted, "payments.payout_completed.v1", "Every item of a payout batch has its outcome.";
    PayoutCancelled, "payments.payout_cancelled.v1", "A payout batch was given up before submission.";
}

macro_rules! item_change {
    ($($name:ident, $event_type:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The item.
            pub payout_item_id: PayoutItemId,
            /// Its batch.
            pub payout_id: PayoutId,
            /// The partner.
            pub partner_id: PartnerId,
            /// Minor units.
            pub amount_minor: i64,
            /// The currency.
            pub currency: Currency,
            /// Why, in the gateway's words.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<String>,
            /// The ledger's entries.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub entries: Vec<EntryNote>,
        }
        event!($name, $event_type, "payout_item", payout_item_id, $meaning, $name {
            payout_item_id: fixed::id(9),
            payout_id: fixed::id(8),
            partner_id: fixed::id(1),
            amount_minor: 244,
            currency: Currency::USD,
            reason: None,
            entries: Vec::new(),
        });
    )*};
}

item_change! {
    ItemSubmitted, "payments.item_submitted.v1", "A payout item is handed to the gateway.";
    ItemUnknown, "payments.item_unknown.v1", "The gateway did not answer for a payout item; it is asked again.";
    ItemSettled, "payments.item_settled.v1", "A payout item was paid.";
    ItemFailed, "payments.item_failed.v1", "A payout item was refused; its amount is payable again.";
    ItemReturned, "payments.item_returned.v1", "A paid item came back; its amount is payable again.";
    ItemCancelled, "payments.item_cancelled.v1", "A payout item was given up before submission; its amount is payable again.";
}

/// An adjustment was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdjustmentRequested {
    /// The adjustment.
    pub adjustment_id: AdjustmentId,
    /// The partner.
    pub partner_id: PartnerId,
    /// What is added to the partner's balance; negative: taken.
    pub amount: Money,
    /// Gives up a negative balance, at most this much of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_off: bool,
}
event!(
    AdjustmentRequested,
    "payments.adjustment_requested.v1",
    "adjustment",
    adjustment_id,
    "An adjustment waits for a second person.",
    AdjustmentRequested {
        adjustment_id: fixed::id(10),
        partner_id: fixed::id(1),
        amount: Money::new(500, Currency::USD),
        write_off: false,
    }
);

/// An adjustment was approved by a second person and posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdjustmentApproved {
    /// The adjustment.
    pub adjustment_id: AdjustmentId,
    /// The partner.
    pub partner_id: PartnerId,
    /// What is added to the partner's balance; negative: taken.
    pub amount: Money,
    /// The ledger's entries.
    pub entries: Vec<EntryNote>,
}
event!(
    AdjustmentApproved,
    "payments.adjustment_approved.v1",
    "adjustment",
    adjustment_id,
    "An adjustment was approved and posted.",
    AdjustmentApproved {
        adjustment_id: fixed::id(10),
        partner_id: fixed::id(1),
        amount: Money::new(500, Currency::USD),
        entries: Vec::new(),
    }
);

/// This context's rows of the catalogue.
pub fn catalogue() -> Vec<Descriptor> {
    vec![
        describe::<PayoutCreated>(),
        describe::<PayoutApproved>(),
        describe::<PayoutSubmitted>(),
        describe::<PayoutCompleted>(),
        describe::<PayoutCancelled>(),
        describe::<ItemSubmitted>(),
        describe::<ItemUnknown>(),
        describe::<ItemSettled>(),
        describe::<ItemFailed>(),
        describe::<ItemReturned>(),
        describe::<ItemCancelled>(),
        describe::<AdjustmentRequested>(),
        describe::<AdjustmentApproved>(),
    ]
}
