//! Conversions: touches, sales, refunds and who is credited.
