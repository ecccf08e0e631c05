//! `POST /v1/conversions/bulk` and `/v1/touches/bulk`: up to 1,000 facts, read, checked and recorded each by itself, so
//! that a bad item gets its own problem and its neighbours are recorded all the same.

use std::collections::BTreeMap;

use conversions::{Fact, NewConversion, NewTouch, Prepared, Receipt};
use kernel::{Fault, Result, problems};
use platform::idempotency::Reply as Stored;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::facts::{WRITE, may_override, status_of, submit};
use crate::auth::Actor;
use crate::extract::{Bulk, replied};
use crate::intake::Outcome;
use crate::json;
use crate::problem::{ProblemBody, Reply};

/// Items of a request at most.
const MOST_ITEMS: usize = 1_000;

/// Conversions to be recorded together.
#[derive(Deserialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used: items are read one by one")]
pub(super) struct ConversionItems {
    /// The conversions, 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<NewConversion>,
}

/// Touches to be recorded together.
#[derive(Deserialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used: items are read one by one")]
pub(super) struct TouchItems {
    /// The touches, 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<NewTouch>,
}

/// What became of one item.
#[derive(Serialize, utoipa::ToSchema)]
struct ItemResult<'a> {
    /// The item's place in the request, from 0.
    index: usize,
    /// 201 when it is new, 200 when it had been recorded before, or the status of the problem.
    status: u16,
    /// The fact's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// It had been recorded before: this is the first answer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    /// The position of the event that records it.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    /// Why it was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// What became of each item.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BulkResults<'a> {
    /// One result per item, in the order of the request.
    results: Vec<ItemResult<'a>>,
    /// How many are new.
    recorded: usize,
    /// How many had been recorded before.
    duplicates: usize,
    /// How many were not recorded.
    refused: usize,
}

/// Records up to 1,000 conversions, each by itself.
#[utoipa::path(post, path = "/v1/conversions/bulk", tag = "conversions",
    security(("api_key" = ["conversions:write"])), request_body = ConversionItems,
    responses((status = 200, description = "A result per item.", body = BulkResults)))]
pub(super) async fn convert(bulk: Bulk<WRITE>) -> Reply {
    take(bulk, |actor, conversion: NewConversion| {
        may_override(actor, &conversion)?;
        Ok(Fact::Conversion(conversion))
    })
    .await
}

/// Records up to 1,000 touches, each by itself.
#[utoipa::path(post, path = "/v1/touches/bulk", tag = "touches",
    security(("api_key" = ["conversions:write"])), request_body = TouchItems,
    responses((status = 200, description = "A result per item.", body = BulkResults)))]
pub(super) async fn touches(bulk: Bulk<WRITE>) -> Reply {
    take(bulk, |_, touch: NewTouch| Ok(Fact::Touch(touch))).await
}

/// The items that are ready, and why the others are not, by their index.
struct Sorted {
    ready: Vec<Prepared>,
    refused: BTreeMap<usize, Fault>,
}

async fn take<T: DeserializeOwned + 'static>(bulk: Bulk<WRITE>, fact: fn(&Actor, T) -> Result<Fact>) -> Reply {
    let Bulk { head, idempotency, bytes } = bulk;
    let actor = head.actor.clone();
    let prepare = move |state: &crate::state::State| {
        let mut sorted = Sorted { ready: Vec::new(), refused: BTreeMap::new() };
        let items = json::items(&bytes)?;
        if !(1..=MOST_ITEMS).contains(&items.len()) {
            let detail = format!("expected 1 to {MOST_ITEMS} items, not {}", items.len());
            return Err(Fault::at(&problems::INVALID, "/items", detail));
        }
        let now = state.db.now();
        for (index, item) in items.into_iter().enumerate() {
            let parsed = json::parse(item.get().as_bytes()).and_then(|item| fact(&actor, item));
            match parsed.and_then(|fact| conversions::prepare(fact, &state.customers, now)) {
                Ok(prepared) => sorted.ready.push(prepared),
                Err(fault) => {
                    sorted.refused.insert(index, fault.below(&format!("/items/{index}")));
                }
            }
        }
        Ok(sorted)
    };
    let Sorted { ready, refused } = head.state.blocking(prepare).await?;
    if ready.is_empty() && idempotency.is_none() {
        return Ok(replied(render(&refused, &[]), false));
    }
    let refused = std::sync::Arc::new(refused);
    let once = idempotency.map(|key| {
        let refused = std::sync::Arc::clone(&refused);
        let store: crate::intake::Render = Box::new(move |results| Some(render(&refused, results)));
        (key, store)
    });
    match submit(&head, ready, once).await? {
        Outcome::Replayed(reply) => Ok(replied(reply, true)),
        Outcome::Recorded(results) => Ok(replied(render(&refused, &results), false)),
    }
}

/// The reply to a whole request: the results of the items that were ready, between the problems of the others.
fn render(refused: &BTreeMap<usize, Fault>, results: &[Result<Receipt>]) -> Stored {
    let mut ready = results.iter();
    let mut answer = BulkResults { results: Vec::new(), recorded: 0, duplicates: 0, refused: 0 };
    for index in 0..refused.len() + results.len() {
        let outcome = match refused.get(&index) {
            Some(fault) => Err(fault.clone()),
            None => match ready.next() {
                Some(Ok(receipt)) => Ok(receipt),
                Some(Err(fault)) => Err(fault.clone().below(&format!("/items/{index}"))),
                None => break,
            },
        };
        let (id, duplicate, position) = match outcome {
            Ok(receipt) => (Some(receipt.id.as_str()), Some(receipt.duplicate), Some(receipt.position)),
            Err(_) => (None, None, None),
        };
        let (status, problem) = match outcome {
            Ok(receipt) => (status_of(receipt).as_u16(), None),
            Err(fault) => {
                let problem = ProblemBody::of_item(&fault);
                (problem.status(), Some(problem))
            }
        };
        match status {
            201 => answer.recorded += 1,
            200 => answer.duplicates += 1,
            _ => answer.refused += 1,
        }
        answer.results.push(ItemResult { index, status, id, duplicate, position, problem });
    }
    let body = serde_json::to_string(&answer).expect("results are plain data and always serialise");
    Stored { status: 200, body }
}
