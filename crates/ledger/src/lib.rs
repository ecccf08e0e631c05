//! Double entry: set-based posting and balances. Knows accounts, not contexts.
