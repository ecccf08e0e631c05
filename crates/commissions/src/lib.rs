//! Commissions: what is earned, held, approved and corrected.
