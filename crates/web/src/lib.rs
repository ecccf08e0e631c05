//! HTTP: the only crate that knows axum. Problems, authentication, extractors, the API.
