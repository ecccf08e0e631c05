//! The published language: what one context tells the others, with a golden sample per event version.
