//! Problems on the wire (RFC 9457): one mapping from a fault's kind to a status, one place that renders. Handlers answer
//! a [`Refused`]; the outermost layer (`observe`) turns it, and whatever the framework refuses by itself, into
//! `application/problem+json` with the request's id.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kernel::{Fault, FieldError, Kind, Problem};
use serde::Serialize;

/// The content type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The body is no JSON.
pub(crate) const MALFORMED_JSON: Problem = Problem::new(
    Kind::Malformed,
    "malformed_json",
    "The body is not one JSON document in UTF-8.",
    "Send one JSON document in UTF-8, nested at most 32 levels deep.",
);
/// The content type is another one.
pub(crate) const UNSUPPORTED_MEDIA: Problem = Problem::new(
    Kind::UnsupportedMedia,
    "unsupported_media_type",
    "The content type of the body is not understood.",
    "Send JSON with Content-Type: application/json.",
);
/// The body is too long.
pub(crate) const BODY_TOO_LARGE: Problem = Problem::new(
    Kind::TooLarge,
    "body_too_large",
    "The body is larger than this request may be.",
    "Send less at once: up to 64 KiB, up to 4 MiB and 1,000 items in a bulk request.",
);
/// The path exists, with other methods.
pub(crate) const METHOD_NOT_ALLOWED: Problem = Problem::new(
    Kind::MethodNotAllowed,
    "method_not_allowed",
    "The path does not know this method.",
    "Use one of the methods that the Allow header lists.",
);
/// The request cannot be read.
pub(crate) const MALFORMED_REQUEST: Problem = Problem::new(
    Kind::Malformed,
    "malformed_request",
    "The request cannot be read.",
    "Check the request line and the headers.",
);
/// No key, or none that is valid.
pub(crate) const UNAUTHENTICATED: Problem = Problem::new(
    Kind::Unauthenticated,
    "unauthenticated",
    "The request carries no valid API key.",
    "Send Authorization: Bearer <key> with a key made by `alpes keys create`.",
);
/// The key may not do this.
pub(crate) const SCOPE_MISSING: Problem = Problem::new(
    Kind::Forbidden,
    "scope_missing",
    "The API key may not do this.",
    "Use a key with the scope that the detail names.",
);
/// A page calls a server that needs no key.
pub(crate) const FOREIGN_PAGE: Problem = Problem::new(
    Kind::Forbidden,
    "foreign_page",
    "Without keys the API answers only programs on this machine.",
    "Call it as localhost or 127.0.0.1 and not from a web page, or serve with keys.",
);
/// The cursor is not ours.
pub(crate) const CURSOR_INVALID: Problem = Problem::new(
    Kind::Malformed,
    "cursor_invalid",
    "The cursor was not given out by this list.",
    "Pass next_cursor of the page before unchanged, with the same filters, or start without a cursor.",
);
/// Too much at once.
pub(crate) const OVERLOADED: Problem = Problem::new(
    Kind::Overloaded,
    "overloaded",
    "More arrives than can be written; nothing of this request was taken.",
    "Repeat the request after the time in Retry-After.",
);

/// The same key is being worked on.
pub(crate) const KEY_IN_FLIGHT: Problem = Problem::new(
    Kind::Conflict,
    "idempotency_key_in_flight",
    "A request with this Idempotency-Key is still under way.",
    "Repeat the request when the first one is over: it gets the same reply.",
);

/// This crate's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[
    &MALFORMED_JSON,
    &UNSUPPORTED_MEDIA,
    &BODY_TOO_LARGE,
    &METHOD_NOT_ALLOWED,
    &MALFORMED_REQUEST,
    &UNAUTHENTICATED,
    &SCOPE_MISSING,
    &FOREIGN_PAGE,
    &CURSOR_INVALID,
    &OVERLOADED,
    &KEY_IN_FLIGHT,
];

/// The HTTP status of a kind of fault.
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a repeat may succeed.
const fn retry_after_seconds(kind: Kind) -> Option<u32> {
    match kind {
        Kind::Overloaded => Some(1),
        Kind::Unavailable => Some(5),
        _ => None,
    }
}

/// An error as every operation answers it (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Where the problem is described: `/docs/problems#<code>`.
    #[serde(rename = "type")]
    reference: String,
    /// What it means, one sentence; the same for every problem with this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable, snake_case: programs branch on it.
    code: &'static str,
    /// What went wrong this time.
    detail: String,
    /// The places of the request that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Finds the request in the server's log; absent in the results of a bulk request.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Seconds after which to repeat the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

impl ProblemBody {
    /// The body of `fault` under `status`.
    fn new(status: StatusCode, fault: &Fault, request_id: Option<&str>) -> Self {
        Self {
            reference: format!("/docs/problems#{}", fault.code()),
            title: fault.problem().title,
            status: status.as_u16(),
            code: fault.code(),
            detail: fault.detail().to_owned(),
            errors: fault.errors().to_vec(),
            request_id: request_id.map(str::to_owned),
            retry_after: retry_after_seconds(fault.kind()),
        }
    }

    /// The problem of one item of a bulk request.
    pub(crate) fn of_item(fault: &Fault) -> Self {
        Self::new(status(fault.kind()), fault, None)
    }

    /// The HTTP status.
    pub(crate) const fn status(&self) -> u16 {
        self.status
    }
}

/// A fault on its way out of a handler.
#[derive(Debug)]
pub(crate) struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = status(self.0.kind()).into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// What a handler answers.
pub(crate) type Reply = Result<Response, Refused>;

/// Gives an error its body, whoever refused the request; other responses pass.
pub(crate) fn complete(response: Response, request_id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Some(fault) = parts.extensions.remove::<Fault>().or_else(|| of_framework(status, &parts.headers)) else {
        return Response::from_parts(parts, body);
    };
    if let Some(cause) = fault.cause() {
        tracing::error!(request_id, code = fault.code(), cause, "a request failed");
    }
    let mut rendered = render(status, &fault, request_id);
    if let Some(allow) = parts.headers.remove(ALLOW) {
        rendered.headers_mut().insert(ALLOW, allow);
    }
    rendered
}

/// The problem behind an error that the framework answered by itself; none when it is a problem already.
fn of_framework(status: StatusCode, headers: &axum::http::HeaderMap) -> Option<Fault> {
    if headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Fault::new(&kernel::problems::NOT_FOUND, "there is no such path"),
        StatusCode::METHOD_NOT_ALLOWED => Fault::new(&METHOD_NOT_ALLOWED, "the path does not know this method"),
        StatusCode::PAYLOAD_TOO_LARGE => Fault::new(&BODY_TOO_LARGE, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Fault::new(&UNSUPPORTED_MEDIA, "the content type is not understood"),
        status if status.is_client_error() => Fault::new(&MALFORMED_REQUEST, "the request cannot be read"),
        status => Fault::internal(format!("the framework answered {status}")),
    })
}

fn render(status: StatusCode, fault: &Fault, request_id: &str) -> Response {
    let problem = ProblemBody::new(status, fault, Some(request_id));
    let body = serde_json::to_vec(&problem).expect("a problem is plain data and always serialises");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"alpes\""));
    }
    if status == StatusCode::FORBIDDEN && fault.problem() == &SCOPE_MISSING {
        headers
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"alpes\", error=\"insufficient_scope\""));
    }
    response
}
