//! `/v1/events`. Events are shown as CloudEvents (JSON format).

use kernel::{CloudEvent, EventRecord, Result, Timestamp};
use platform::lease::{self, Lease};
use platform::{Reader, consumer, dead_letters, event_log, parking, seal};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Scope;
use crate::extract::{Get, NoParameters, parameter_fault};
use crate::list::{Order, limit};
use crate::outside::Outside;
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

/// How far a consumer or a relay has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerView {
    /// The consumer; `relay:<sink>` for a relay.
    pub name: String,
    /// The last event that it has handled or passed over.
    pub position: i64,
    /// How many events it has not looked at.
    pub lag: i64,
    /// Events that it could not handle.
    pub dead_letters: usize,
    /// Why the last of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A work that one process at a time does, and who that is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LeaseView {
    /// A consumer, a relay, or `timers`.
    pub name: String,
    /// Machine, process and run of the holder.
    pub holder: String,
    /// Grows with every change of hands.
    pub token: i64,
    /// Whether it is held now; otherwise the next process that wants it takes it.
    pub is_held: bool,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
}

/// How the log, its consumers and its relays stand.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Statistics {
    /// The position of the last event.
    pub head: i64,
    /// The last event that the seal covers.
    pub sealed: i64,
    /// How many events wait for something.
    pub parked: i64,
    /// How many waited and went on.
    pub resumed: i64,
    /// How many could not be handled.
    pub dead_letters: i64,
    /// The consumers and relays.
    pub consumers: Vec<ConsumerView>,
    /// Who does what; empty where one process does everything.
    pub leases: Vec<LeaseView>,
    /// What the database and the broker keep for those who read events, with alarms.
    pub outside: Outside,
}

impl Statistics {
    /// Reads them; `running` is how far consumers of this process have come beyond what is stored, `outside` what was
    /// seen elsewhere.
    pub fn read(reader: &Reader<'_>, now: Timestamp, running: &[(&str, i64)], outside: Outside) -> Result<Self> {
        let head = event_log::head(reader)?;
        let (parked, resumed) = parking::count(reader)?;
        let letters = dead_letters::list(reader, None, 1_000)?;
        let mut positions: std::collections::BTreeMap<String, i64> = consumer::positions(reader)?.into_iter().collect();
        for &(name, position) in running {
            let known = positions.entry(name.to_owned()).or_insert(0);
            *known = position.max(*known);
        }
        let view = |(name, position): (String, i64)| {
            let mut own = letters.iter().filter(|letter| letter.consumer == name && letter.state == "failed");
            let last_error = own.next_back().map(|letter| letter.reason.clone());
            let dead_letters = letters.iter().filter(|letter| letter.consumer == name).count();
            ConsumerView { position, lag: (head - position).max(0), dead_letters, last_error, name }
        };
        let lease = |lease: Lease| LeaseView {
            is_held: lease.expires_at > now,
            name: lease.name,
            holder: lease.holder,
            token: lease.token,
            expires_at: lease.expires_at,
        };
        Ok(Self {
            head,
            sealed: seal::last(reader)?.map_or(0, |seal| seal.last_position),
            parked,
            resumed,
            dead_letters: dead_letters::count(reader)?,
            consumers: positions.into_iter().map(view).collect(),
            leases: lease::list(reader)?.into_iter().map(lease).collect(),
            outside,
        })
    }
}

/// Positions and lags of consumers and relays, how many events wait or failed, which process does what, and what the
/// database and the broker keep for readers.
#[utoipa::path(get, path = "/v1/events/statistics", tag = "events", security(("api_key" = ["events:read"])),
    responses((status = 200, body = Statistics)))]
async fn statistics(get: Get<NoParameters, READ>) -> Reply {
    let (running, outside, now) = (get.state.progress(), get.state.outside(), get.state.db.now());
    get.run(move |reader, _| Statistics::read(reader, now, &running.positions, outside)).await
}
