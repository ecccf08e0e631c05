//! What waits and what failed: `/v1/parked` and `/v1/dead-letters`.

use axum::http::StatusCode;
use kernel::{CloudEvent, DeadLetterId, Fault, Result, Timestamp};
use platform::{Paged, consumer, dead_letters, event_log, parking};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Nothing;
use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, json_response};
use crate::list::{List, Pager, limit};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::EventsRead as u8;
const OPERATE: u8 = Scope::OperationsWrite as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(parked)).routes(routes!(letters)).routes(routes!(replay)).routes(routes!(skip))
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageParameters {
    /// Items at most; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An event that waits for something.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct WaitingView {
    /// The consumer that waits.
    consumer: String,
    /// The position of the event.
    position: i64,
    /// What it waits for.
    wait_key: String,
    /// Why.
    reason: String,
    /// Since when.
    since: Timestamp,
    /// The aggregate that the event is about.
    subject: String,
    /// The event's type.
    #[serde(rename = "type")]
    event_type: String,
}

/// What waits, oldest first, and for what.
#[utoipa::path(get, path = "/v1/parked", tag = "events", security(("api_key" = ["events:read"])),
    params(PageParameters), responses((status = 200, body = List<WaitingView>)))]
async fn parked(get: Get<PageParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, asked| {
        let after = asked.cursor.as_deref().map(|cursor| pager.open(cursor)).transpose()?;
        let after = after.map_or(0, |key| i64::try_from(u128::from_be_bytes(key)).unwrap_or(i64::MAX));
        let limit = limit(asked.limit)?;
        let mut found = parking::list(reader, after, limit + 1)?;
        let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if has_more {
            found.pop();
        }
        let next = found.last().filter(|_| has_more).map(|last| i128::from(last.position).to_be_bytes());
        let positions: Vec<i64> = found.iter().map(|parked| parked.position).collect();
        let events = event_log::at(reader, &positions)?;
        let view = |parked: parking::Parked| {
            let event = events.iter().find(|event| event.position == parked.position);
            let event = event.ok_or_else(|| Fault::internal(format!("no event at {}", parked.position)))?;
            let (subject, event_type) = (event.subject.clone(), event.event_type.clone());
            let parking::Parked { consumer, position, wait_key, reason, since } = parked;
            Ok(WaitingView { consumer, position, wait_key, reason, since, subject, event_type })
        };
        let items = found.into_iter().map(view).collect::<Result<Vec<_>>>()?;
        Ok(pager.list(Paged { items, next, total: None }))
    })
    .await
}

/// An event that a consumer could not handle.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct DeadLetterView {
    /// The dead letter.
    id: DeadLetterId,
    /// The consumer.
    consumer: String,
    /// `failed`, or `waiting` behind a failed one of the same subject.
    state: String,
    /// What went wrong.
    reason: String,
    /// Since when.
    since: Timestamp,
    /// The event.
    event: CloudEvent,
}

/// The open dead letters, oldest first.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "events", security(("api_key" = ["events:read"])),
    params(PageParameters), responses((status = 200, body = List<DeadLetterView>)))]
async fn letters(get: Get<PageParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, asked| {
        let after = asked.cursor.as_deref().map(|cursor| pager.open(cursor)).transpose()?;
        let limit = limit(asked.limit)?;
        let mut found = dead_letters::list(reader, after.map(DeadLetterId::from_bytes), limit + 1)?;
        let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if has_more {
            found.pop();
        }
        let next = found.last().filter(|_| has_more).map(|last| *last.id.as_bytes());
        let view = |letter: dead_letters::DeadLetter| {
            let dead_letters::DeadLetter { id, consumer, event, state, reason, since } = letter;
            Ok(DeadLetterView { id, consumer, state, reason, since, event: CloudEvent::of(event)? })
        };
        let items = found.into_iter().map(view).collect::<Result<Vec<_>>>()?;
        Ok(pager.list(Paged { items, next, total: None }))
    })
    .await
}

/// How many dead letters went.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Resolved {
    /// How many events are no longer dead letters.
    resolved: usize,
}

/// Tries a dead letter and those that wait behind it again, in order.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/replay", tag = "events",
    security(("api_key" = ["operations:write"])), params(("id" = DeadLetterId, Path)),
    request_body = Option<Nothing>, responses((status = 200, body = Resolved)))]
async fn replay(AtPath(id): AtPath<DeadLetterId>, command: Command<Nothing, OPERATE>) -> Reply {
    let body = command.head.state.blocking(move |state| {
        let resolved = (state.replay)(id)?;
        serde_json::to_vec(&Resolved { resolved }).map_err(Fault::internal)
    });
    Ok(json_response(StatusCode::OK, body.await?))
}

/// Gives up on one dead letter; those behind it wait for a replay.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/skip", tag = "events",
    security(("api_key" = ["operations:write"])), params(("id" = DeadLetterId, Path)),
    request_body = Option<Nothing>, responses((status = 200, body = Resolved)))]
async fn skip(AtPath(id): AtPath<DeadLetterId>, command: Command<Nothing, OPERATE>) -> Reply {
    command
        .run(StatusCode::OK, move |tx, _| {
            consumer::skip(tx, id)?;
            Ok(Resolved { resolved: 1 })
        })
        .await
}
