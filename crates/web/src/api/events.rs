//! `/v1/events`. Events are shown as CloudEvents (JSON format).

use kernel::{EventId, EventRecord, Fault, Result, Timestamp};
use platform::{Reader, consumer, dead_letters, event_log, parking, seal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Scope;
use crate::extract::{Get, NoParameters, parameter_fault};
use crate::list::{Order, limit};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::EventsRead as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(pull)).routes(routes!(statistics))
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventParameters {
    /// Events behind this position, in the order that is asked for; from the beginning when absent.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Only this type, for example `commissions.accrued.v1`.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only about this aggregate, for example `cnv_…`.
    subject: Option<String>,
    /// Only those that go back to a request with this `X-Correlation-Id`.
    correlation_id: Option<String>,
    /// Oldest first (`asc`, the default) or newest first (`desc`).
    #[param(inline)]
    order: Option<Order>,
    /// Items at most; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// An event, with the attributes of CloudEvents 1.0.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CloudEvent {
    /// `1.0`
    specversion: &'static str,
    /// The event.
    id: EventId,
    /// `alpes`
    source: &'static str,
    /// `<context>.<fact>.v<n>`.
    #[serde(rename = "type")]
    event_type: String,
    /// The aggregate that it is about.
    subject: String,
    /// When it became known.
    time: Timestamp,
    /// `application/json`
    datacontenttype: &'static str,
    /// Where the event's shape is described.
    dataschema: String,
    /// Events with the same key are in order.
    partitionkey: String,
    /// The position in the log, as text; without gaps over all events.
    sequence: String,
    /// Who did it.
    actor: String,
    /// What the client sent to find its own traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    /// The event that this one follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<EventId>,
    /// The fact.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl CloudEvent {
    /// The event with its attributes.
    pub(super) fn of(event: EventRecord) -> Result<Self> {
        Ok(Self {
            specversion: "1.0",
            id: event.id,
            source: "alpes",
            dataschema: format!("/docs/events#{}", event.event_type),
            event_type: event.event_type,
            partitionkey: event.subject.clone(),
            subject: event.subject,
            time: event.time,
            datacontenttype: "application/json",
            sequence: event.position.to_string(),
            actor: event.actor,
            correlationid: event.correlation_id,
            causationid: event.causation_id,
            data: RawValue::from_string(event.payload).map_err(Fault::internal)?,
        })
    }
}

/// A page of events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EventPage {
    /// The events.
    items: Vec<CloudEvent>,
    /// Whether there are more by now.
    has_more: bool,
    /// Pass it as `after` to go on from here, at once or later.
    next_after: i64,
    /// The position of the last event of all.
    head: i64,
}

/// The events, from any position, for ever. Ask again with `after=next_after` to follow them.
#[utoipa::path(get, path = "/v1/events", tag = "events", security(("api_key" = ["events:read"])),
    params(EventParameters), responses((status = 200, body = EventPage)))]
async fn pull(get: Get<EventParameters, READ>) -> Reply {
    get.run(|reader, asked| {
        if asked.after.is_some_and(|after| after < 0) {
            return Err(parameter_fault("after", "expected a position, 0 or more"));
        }
        let limit = usize::try_from(limit(asked.limit)?).unwrap_or(usize::MAX);
        let head = event_log::head(reader)?;
        let Found { mut events, seen, is_end } = match asked.order {
            Some(Order::Descending) => newest_first(reader, &asked, head, limit)?,
            _ => oldest_first(reader, &asked, head, limit)?,
        };
        let is_full = events.len() > limit;
        events.truncate(limit);
        let next_after = if is_full { events.last().map_or(seen, |event| event.position) } else { seen };
        let items = events.into_iter().map(CloudEvent::of).collect::<Result<_>>()?;
        Ok(EventPage { items, has_more: is_full || !is_end, next_after, head })
    })
    .await
}

impl EventParameters {
    fn wants(&self, event: &EventRecord) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        is(&self.event_type, &event.event_type)
            && is(&self.subject, &event.subject)
            && is(&self.correlation_id, event.correlation_id.as_deref().unwrap_or_default())
    }

    /// The history that an index answers, if one is asked for.
    fn history(&self, reader: &Reader<'_>, after: i64, size: usize) -> Result<Option<Vec<EventRecord>>> {
        match (&self.subject, &self.correlation_id) {
            (Some(subject), _) => event_log::of_subject(reader, subject, after, size).map(Some),
            (None, Some(correlation)) => event_log::of_correlation(reader, correlation, after, size).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Up to `limit` events and one more.
struct Found {
    events: Vec<EventRecord>,
    /// Everything up to here (or down to here) has been looked at.
    seen: i64,
    /// Whether nothing is left to look at.
    is_end: bool,
}

/// How many events are looked at for one page: a page may have fewer items than asked for although there are more, and
/// then `next_after` leads on.
const WINDOW: i64 = 100_000;
/// Events of one aggregate, or of one request, that are looked at for one page.
const LONGEST_HISTORY: usize = 10_000;

fn oldest_first(reader: &Reader<'_>, asked: &EventParameters, head: i64, limit: usize) -> Result<Found> {
    let after = asked.after.unwrap_or(0);
    if let Some(mut events) = asked.history(reader, after, LONGEST_HISTORY)? {
        let is_end = events.len() < LONGEST_HISTORY;
        let seen = if is_end { after.max(head) } else { events.last().map_or(after, |event| event.position) };
        events.retain(|event| asked.wants(event));
        return Ok(Found { events, seen, is_end });
    }
    let up_to = head.min(after.saturating_add(WINDOW)).max(after);
    let types: Vec<&str> = asked.event_type.as_deref().into_iter().collect();
    let events = event_log::range(reader, after, up_to, &types, limit + 1)?;
    Ok(Found { events, seen: up_to, is_end: up_to >= head })
}

fn newest_first(reader: &Reader<'_>, asked: &EventParameters, head: i64, limit: usize) -> Result<Found> {
    let before = asked.after.unwrap_or(i64::MAX);
    if let Some(mut events) = asked.history(reader, 0, LONGEST_HISTORY)? {
        events.retain(|event| event.position < before && asked.wants(event));
        events.reverse();
        return Ok(Found { events, seen: 0, is_end: true });
    }
    let mut found = Found { events: Vec::new(), seen: before.min(head + 1), is_end: false };
    let furthest = found.seen - WINDOW;
    while !found.is_end && found.events.len() <= limit && found.seen > furthest {
        let mut chunk = event_log::newest(reader, found.seen, 500)?;
        found.is_end = chunk.len() < 500;
        found.seen = chunk.last().map_or(found.seen, |event| event.position);
        chunk.retain(|event| asked.wants(event));
        found.events.append(&mut chunk);
    }
    Ok(found)
}

/// How far a consumer has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ConsumerView {
    /// The consumer.
    name: String,
    /// The last event that it has handled or passed over.
    position: i64,
    /// How many events it has not looked at.
    lag: i64,
    /// Events that it could not handle.
    dead_letters: usize,
    /// Why the last of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// How the log and its consumers stand.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Statistics {
    /// The position of the last event.
    head: i64,
    /// The last event that the seal covers.
    sealed: i64,
    /// How many events wait for something.
    parked: i64,
    /// How many waited and went on.
    resumed: i64,
    /// How many could not be handled.
    dead_letters: i64,
    /// The consumers.
    consumers: Vec<ConsumerView>,
}

/// Positions and lags of the consumers, and how many events wait or failed.
#[utoipa::path(get, path = "/v1/events/statistics", tag = "events", security(("api_key" = ["events:read"])),
    responses((status = 200, body = Statistics)))]
async fn statistics(get: Get<NoParameters, READ>) -> Reply {
    let running = get.state.progress();
    get.run(move |reader, _| {
        let head = event_log::head(reader)?;
        let (parked, resumed) = parking::count(reader)?;
        let letters = dead_letters::list(reader, None, 1_000)?;
        let mut positions: std::collections::BTreeMap<String, i64> = consumer::positions(reader)?.into_iter().collect();
        for (name, position) in running.positions {
            let known = positions.entry(name.to_owned()).or_insert(0);
            *known = position.max(*known);
        }
        let view = |(name, position): (String, i64)| {
            let mut own = letters.iter().filter(|letter| letter.consumer == name && letter.state == "failed");
            let last_error = own.next_back().map(|letter| letter.reason.clone());
            let dead_letters = letters.iter().filter(|letter| letter.consumer == name).count();
            ConsumerView { position, lag: (head - position).max(0), dead_letters, last_error, name }
        };
        let consumers = positions.into_iter().map(view).collect();
        let sealed = seal::last(reader)?.map_or(0, |seal| seal.last_position);
        Ok(Statistics { head, sealed, parked, resumed, dead_letters: dead_letters::count(reader)?, consumers })
    })
    .await
}
