//! Payments: payout batches, gateways, adjustments.
