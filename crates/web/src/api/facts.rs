//! `POST /v1/touches`, `/v1/conversions`, `/v1/refunds`, one by one. The natural key answers for ever: a repeat gets
//! the first answer again. The bulk forms are in `bulk`.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use conversions::{Fact, NewConversion, NewRefund, NewTouch, Prepared, Receipt};
use kernel::{ConversionId, Fault, Result, problems};
use platform::idempotency::{IdempotencyKey, Reply as Stored};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bulk;
use super::conversions::ConversionDetail;
use crate::auth::{Actor, Scope};
use crate::extract::{Command, Head, json_response, replied};
use crate::headers::applied;
use crate::intake::{Job, Outcome, Render};
use crate::problem::Reply;
use crate::state::State;

pub(super) const WRITE: u8 = Scope::ConversionsWrite as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(touch))
        .routes(routes!(bulk::touches))
        .routes(routes!(convert))
        .routes(routes!(bulk::convert))
        .routes(routes!(refund))
}

/// A receipt, or, with `Prefer: wait`, the conversion with its commission.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: an answer is written from what it holds")]
enum ConversionReply {
    Receipt(Receipt),
    Conversion(Box<ConversionDetail>),
}

/// Records a touch.
#[utoipa::path(post, path = "/v1/touches", tag = "touches", security(("api_key" = ["conversions:write"])),
    request_body = NewTouch,
    responses((status = 201, body = Receipt),
        (status = 200, description = "Recorded before: the first answer again.", body = Receipt)))]
async fn touch(command: Command<NewTouch, WRITE>) -> Reply {
    let Command { head, idempotency, body } = command;
    Ok(record(&head, idempotency, Fact::Touch(body)).await?.into_response())
}

/// Records a refund, a chargeback, a cancellation, or a chargeback that was won back. It may come before its sale.
#[utoipa::path(post, path = "/v1/refunds", tag = "refunds", security(("api_key" = ["conversions:write"])),
    request_body = NewRefund,
    responses((status = 201, body = Receipt),
        (status = 200, description = "Recorded before: the first answer again.", body = Receipt)))]
async fn refund(command: Command<NewRefund, WRITE>) -> Reply {
    let Command { head, idempotency, body } = command;
    Ok(record(&head, idempotency, Fact::Refund(body)).await?.into_response())
}

/// Records a conversion. With `Prefer: wait=N` the answer comes when it has been attributed and its commission computed,
/// or after N seconds.
#[utoipa::path(post, path = "/v1/conversions", tag = "conversions",
    security(("api_key" = ["conversions:write"])), request_body = NewConversion,
    params(("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 30.")),
    responses((status = 201, body = ConversionReply),
        (status = 200, description = "Recorded before: the first answer again.", body = ConversionReply)))]
async fn convert(command: Command<NewConversion, WRITE>) -> Reply {
    let Command { head, idempotency, body } = command;
    may_override(&head.actor, &body)?;
    let taken = record(&head, idempotency, Fact::Conversion(body)).await?;
    match (taken, head.sent.wait) {
        (Taken::Recorded(receipt), Some(wait)) => waited(&head.state, receipt, wait).await,
        (taken, _) => Ok(taken.into_response()),
    }
}

/// One-off terms decide about money: they need a scope of their own. Fault: `scope_missing`.
pub(super) fn may_override(actor: &Actor, conversion: &NewConversion) -> Result<()> {
    if conversion.terms.is_some() { actor.need(Scope::TermsOverride as u8) } else { Ok(()) }
}

/// What became of a fact.
enum Taken {
    Recorded(Receipt),
    Replayed(Stored),
}

impl Taken {
    fn into_response(self) -> Response {
        match self {
            Self::Recorded(receipt) => replied(reply_to(&receipt), false),
            Self::Replayed(reply) => replied(reply, true),
        }
    }
}

fn reply_to(receipt: &Receipt) -> Stored {
    let body = serde_json::to_string(receipt).expect("a receipt is plain data and always serialises");
    Stored { status: status_of(receipt).as_u16(), body }
}

/// 201 for a new fact, 200 for a repeat.
pub(super) const fn status_of(receipt: &Receipt) -> StatusCode {
    if receipt.duplicate { StatusCode::OK } else { StatusCode::CREATED }
}

async fn record(head: &Head, key: Option<IdempotencyKey>, fact: Fact) -> Result<Taken> {
    let prepared = conversions::prepare(fact, &head.state.customers, head.state.db.now())?;
    let render: Render = Box::new(|results| match results {
        [Ok(receipt)] => Some(reply_to(receipt)),
        _ => None,
    });
    match submit(head, vec![prepared], key.map(|key| (key, render))).await? {
        Outcome::Replayed(reply) => Ok(Taken::Replayed(reply)),
        Outcome::Recorded(results) => {
            let result = results.into_iter().next();
            result.ok_or_else(|| Fault::internal("the intake gave no result"))?.map(Taken::Recorded)
        }
    }
}

/// Hands facts to the committer and waits for the commit.
pub(super) async fn submit(
    head: &Head,
    facts: Vec<Prepared>,
    once: Option<(IdempotencyKey, Render)>,
) -> Result<Outcome> {
    let (mut job, answer) = Job::new(head.actor.name.clone(), facts, head.sent.correlation_id.clone());
    if let Some((key, render)) = once {
        job.once(key, render);
    }
    head.state.intake.submit(job)?;
    answer.await.map_err(|_| Fault::new(&problems::UNAVAILABLE, "the server is stopping"))?
}

/// Waits until the conversion has been decided and what follows from that has been computed; answers the receipt when
/// the time is up before.
async fn waited(state: &State, receipt: Receipt, wait: Duration) -> Reply {
    let until = tokio::time::Instant::now() + wait;
    let mut is_settled = state.wait_for("conversions", receipt.position, until).await;
    if is_settled {
        is_settled = state.wait_for("commissions", state.db.head(), until).await;
    }
    let mut response = if is_settled {
        let status = status_of(&receipt);
        let id: ConversionId = receipt.id.parse().map_err(Fault::internal)?;
        let body = state.blocking(move |state| {
            let detail = state.db.read(|reader| ConversionDetail::read(reader, id))?;
            serde_json::to_vec(&detail).map_err(Fault::internal)
        });
        json_response(status, body.await?)
    } else {
        Taken::Recorded(receipt).into_response()
    };
    response.headers_mut().insert("preference-applied", applied(wait));
    Ok(response)
}
