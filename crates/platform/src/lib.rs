//! Persistence and messaging: SQL façade, event store, consumers, parking. Knows no business word.
