//! Partners: who may earn.
