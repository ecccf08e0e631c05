//! Campaigns: terms, windows, enrolments, budgets.
