//! The outermost layer: names the request, asks who sends it, catches panics, gives every error its body, counts it, and
//! writes the one line about it.

use std::any::Any;

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::Fault;

use crate::extract::Caller;
use crate::metrics::moment;
use crate::problem::{Refused, complete};
use crate::state::State;

/// Handles one request, whatever happens inside.
pub(crate) async fn observe(Shared(state): Shared<State>, mut request: Request, next: Next) -> Response {
    let started = moment();
    let request_id = state.request_id();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let caller = state.authenticate(request.headers()).await;
    let actor = caller.as_ref().ok().map(|actor| actor.name.clone());
    request.extensions_mut().insert(Caller(caller));
    let mut response = complete(next.run(request).await, &request_id);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    let status = response.status();
    let took = started.elapsed();
    let route = route.as_ref().map(MatchedPath::as_str);
    state.metrics.count(&method, route, status, took);
    tracing::info!(
        method = method.as_str(),
        route,
        status = status.as_u16(),
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request_id,
        actor = actor.as_deref(),
        "request"
    );
    response
}

/// What a handler that panicked answers.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Refused::from(Fault::internal(format!("a handler panicked: {text}"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_panic_becomes_a_problem_without_its_words() {
        let response = complete(panicked(Box::new("row 7 of the secret table")), "req_1");
        assert_eq!(response.status().as_u16(), 500);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["request_id"]), (&"internal".into(), &"req_1".into()));
        assert!(!body.to_string().contains("secret"), "{body}");
    }
}
