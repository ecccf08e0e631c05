//! What a payment gateway is to us. The payout item's id is its idempotency key: however often it is asked to pay one
//! key, at most one payment happens. Every gateway passes `gateways::conformance`.

use kernel::{Money, PartnerId, PayoutItemId, Timestamp};

use crate::model::Outcome;

/// What a gateway is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// The idempotency key.
    pub item_id: PayoutItemId,
    /// Who gets the money; the gateway knows where it goes.
    pub partner_id: PartnerId,
    /// How much, above zero.
    pub amount: Money,
}

/// What a gateway tells by itself, perhaps twice, perhaps before it has answered the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The idempotency key.
    pub item_id: PayoutItemId,
    /// Settled, failed or returned.
    pub outcome: Outcome,
}

/// Pays partners. Calls happen outside of any transaction.
pub trait PaymentGateway: Send + Sync {
    /// The name in the ledger's `cash:<gateway>`; never changes.
    fn name(&self) -> &'static str;

    /// Pays, unless this key was paid before: then it answers what became of that, and nothing else happens. A key that
    /// comes back with another amount or partner pays nothing and answers `Unknown`.
    fn pay(&self, payment: &Payment, now: Timestamp) -> Outcome;

    /// What became of a payment; `NeverSeen` only when it is certain that the key never arrived.
    fn ask(&self, item_id: PayoutItemId, now: Timestamp) -> Outcome;

    /// What it has told since it was asked last; the caller records it or gives it back.
    fn take_callbacks(&self, now: Timestamp) -> Vec<Callback>;

    /// Callbacks that could not be recorded: they are handed out again.
    fn give_back(&self, callbacks: Vec<Callback>);
}
