//! What handlers take: [`Command`] (scope, headers, strict JSON body), [`Bulk`] (the same with many items), [`Get`]
//! (scope, query) and [`AtPath`] (ids). Each refuses before the handler runs, and each has one way to go on: `run`.

use std::error::Error as _;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use kernel::{Fault, Result, digest16, problems};
use platform::idempotency::{self, IdempotencyKey};
use platform::{Lane, Reader, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::Actor;
use crate::headers::{Sent, is_json};
use crate::json;
use crate::problem::{BODY_TOO_LARGE, Refused, Reply};
use crate::state::{Claim, State};

/// Bytes of a single command at most.
const LARGEST_BODY: usize = 64 << 10;
/// Bytes of a bulk request at most.
const LARGEST_BULK: usize = 4 << 20;
/// What is too large is read to here and thrown away, so that the client gets to read the answer.
const LARGEST_DRAIN: usize = 16 << 20;

/// Who asks, put into the request by the outermost layer.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Result<Actor>);

fn caller(parts: &Parts) -> Result<Actor> {
    let caller = parts.extensions.get::<Caller>().ok_or_else(|| Fault::internal("nobody asked who asks"))?;
    caller.0.clone()
}

fn allowed(parts: &Parts, scope: u8) -> Result<Actor> {
    let actor = caller(parts)?;
    actor.need(scope)?;
    Ok(actor)
}

/// The head of a request that changes something.
pub(crate) struct Head {
    pub(crate) state: State,
    pub(crate) actor: Actor,
    pub(crate) sent: Sent,
    /// Holds the request's Idempotency-Key until it is answered.
    _claim: Option<Claim>,
}

/// Reads head and body, in the order of what is cheapest to refuse.
async fn open(request: Request, state: &State, scope: u8, largest: usize) -> Result<(Head, Bytes, Parts)> {
    let (parts, body) = request.into_parts();
    let actor = allowed(&parts, scope)?;
    let sent = Sent::read(&parts.headers)?;
    no_query(&parts)?;
    let is_empty = parts.headers.get(CONTENT_TYPE).is_none() && http_body::Body::is_end_stream(&body);
    if !is_empty {
        is_json(&parts.headers)?;
    }
    let bytes = read(&parts, body, largest).await?;
    let claim = sent.idempotency_key.as_deref().map(|key| state.claim(&actor, key)).transpose()?;
    Ok((Head { state: state.clone(), actor, sent, _claim: claim }, bytes, parts))
}

fn no_query(parts: &Parts) -> Result<()> {
    match parts.uri.query().filter(|query| !query.is_empty()) {
        None => Ok(()),
        Some(_) => parameters::<NoParameters>(parts).map(|_| ()),
    }
}

async fn read(parts: &Parts, mut body: Body, largest: usize) -> Result<Bytes> {
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > LARGEST_DRAIN) {
        return Err(too_large(largest));
    }
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::new(&crate::problem::MALFORMED_REQUEST, error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > LARGEST_DRAIN {
            break;
        }
        if length > largest {
            continue;
        }
        if first.is_empty() {
            // Most bodies come in one piece: then nothing is copied.
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    match length > largest {
        true => Err(too_large(largest)),
        false => Ok(if rest.is_empty() { first } else { rest.into() }),
    }
}

/// Reads a body that came another way as strictly as one by HTTP. Faults: `body_too_large`, `malformed_json`, `invalid`.
pub fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > LARGEST_BODY { Err(too_large(LARGEST_BODY)) } else { json::parse(bytes) }
}

fn too_large(largest: usize) -> Fault {
    Fault::new(&BODY_TOO_LARGE, format!("the body may have {} KiB", largest >> 10))
}

/// The key under which the reply is stored: it belongs to this method, path and body.
fn idempotency_key(sent: &mut Sent, parts: &Parts, body: &[u8]) -> Option<IdempotencyKey> {
    let key = sent.idempotency_key.take()?;
    let request_digest = digest16(&[parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), body]);
    Some(IdempotencyKey { key, request_digest })
}

/// A request that changes something, by a key with the scope `SCOPE`. No body at all counts as `{}`.
pub(crate) struct Command<T, const SCOPE: u8> {
    pub(crate) head: Head,
    pub(crate) idempotency: Option<IdempotencyKey>,
    pub(crate) body: T,
}

impl<T: DeserializeOwned, const SCOPE: u8> FromRequest<State> for Command<T, SCOPE> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &State) -> std::result::Result<Self, Refused> {
        let (mut head, bytes, parts) = open(request, state, SCOPE, LARGEST_BODY).await?;
        let body = json::parse(if bytes.is_empty() { b"{}" } else { &bytes })?;
        let idempotency = idempotency_key(&mut head.sent, &parts, &bytes);
        Ok(Self { head, idempotency, body })
    }
}

impl<T: Send + 'static, const SCOPE: u8> Command<T, SCOPE> {
    /// Runs `work` in one transaction and answers its view with `status`. With an Idempotency-Key the reply is stored
    /// in the same transaction; a request under a known key gets the stored reply and `work` does not run.
    pub(crate) async fn run<V: Serialize>(
        self,
        status: StatusCode,
        work: impl Fn(&mut Tx<'_>, &T) -> Result<V> + Send + 'static,
    ) -> Reply {
        let Self { head: Head { state, actor, sent, .. }, idempotency, body } = self;
        let done = state.blocking(move |state| {
            state.db.write("command", Lane::Front, &actor.name, |tx| {
                if let Some(key) = &idempotency
                    && let Some(reply) = idempotency::find(tx, tx.actor(), key)?
                {
                    return Ok((reply, true));
                }
                tx.correlate(sent.correlation_id.clone());
                let view = work(tx, &body)?;
                let body = serde_json::to_string(&view).map_err(Fault::internal)?;
                let reply = idempotency::Reply { status: status.as_u16(), body };
                if let Some(key) = &idempotency {
                    idempotency::store(tx, key, &reply)?;
                }
                Ok((reply, false))
            })
        });
        let (reply, is_replayed) = done.await?;
        Ok(replied(reply, is_replayed))
    }
}

/// A request with many items, by a key with the scope `SCOPE`; the items are read one by one later.
pub(crate) struct Bulk<const SCOPE: u8> {
    pub(crate) head: Head,
    pub(crate) idempotency: Option<IdempotencyKey>,
    pub(crate) bytes: Bytes,
}

impl<const SCOPE: u8> FromRequest<State> for Bulk<SCOPE> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &State) -> std::result::Result<Self, Refused> {
        let (mut head, bytes, parts) = open(request, state, SCOPE, LARGEST_BULK).await?;
        let idempotency = idempotency_key(&mut head.sent, &parts, &bytes);
        Ok(Self { head, idempotency, bytes })
    }
}

/// A request that reads, by a key with the scope `SCOPE`, with the query `P`.
pub(crate) struct Get<P, const SCOPE: u8> {
    pub(crate) state: State,
    pub(crate) parameters: P,
    /// The path: a cursor belongs to the list that gave it out.
    pub(crate) path: String,
}

impl<P: DeserializeOwned, const SCOPE: u8> FromRequestParts<State> for Get<P, SCOPE> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> std::result::Result<Self, Refused> {
        allowed(parts, SCOPE)?;
        Ok(Self { state: state.clone(), parameters: parameters(parts)?, path: parts.uri.path().to_owned() })
    }
}

impl<P: Send + 'static, const SCOPE: u8> Get<P, SCOPE> {
    /// Reads on a consistent snapshot and answers the view.
    pub(crate) async fn run<V: Serialize>(
        self,
        work: impl FnOnce(&Reader<'_>, P) -> Result<V> + Send + 'static,
    ) -> Reply {
        let Self { state, parameters, .. } = self;
        let body = state.blocking(move |state| {
            let view = state.db.read(|reader| work(reader, parameters))?;
            serde_json::to_vec(&view).map_err(Fault::internal)
        });
        Ok(json_response(StatusCode::OK, body.await?))
    }
}

/// The query of a path that takes no parameters.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// Reads the query. Fault: `invalid`, which names the parameter.
fn parameters<P: DeserializeOwned>(parts: &Parts) -> Result<P> {
    type Inner = serde_path_to_error::Error<serde::de::value::Error>;
    Query::<P>::try_from_uri(&parts.uri).map(|Query(parameters)| parameters).map_err(|rejection| {
        let mut source = rejection.source();
        while let Some(error) = source {
            if let Some(inner) = error.downcast_ref::<Inner>() {
                let (path, detail) = (inner.path().to_string(), inner.inner().to_string());
                // What is missing or stands twice is a fault of the whole, whose text names the parameter.
                let name = if path == "." { detail.split('`').nth(1).unwrap_or_default() } else { &path };
                return parameter_fault(name, &detail);
            }
            source = error.source();
        }
        Fault::new(&problems::INVALID, rejection.body_text())
    })
}

/// A parameter of the query that is not acceptable.
pub(crate) fn parameter_fault(name: &str, detail: &str) -> Fault {
    let clip = |text: &str| text.chars().take(200).collect::<String>();
    Fault::at(&problems::INVALID, format!("/query/{}", clip(name)), clip(detail))
}

/// The ids in the path: `ptr_…` or a bare UUID. Anything else is a path that does not exist.
pub(crate) struct AtPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<State> for AtPath<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> std::result::Result<Self, Refused> {
        caller(parts)?;
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(rejection) => Err(Fault::new(&problems::NOT_FOUND, rejection.body_text()).into()),
        }
    }
}

/// A reply that a command gave now, or before.
pub(crate) fn replied(reply: idempotency::Reply, is_replayed: bool) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = json_response(status, reply.body.into());
    if is_replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// A response with a JSON body.
pub(crate) fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
