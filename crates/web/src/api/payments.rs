//! `/v1/payouts` and `/v1/adjustments`.

use axum::http::StatusCode;
use events::payments::{AdjustmentState, PayoutState};
use kernel::{AdjustmentId, Currency, PartnerId, PayoutId, Timestamp};
use payments::{
    AdjustmentFilter, AdjustmentView, CreatePayout, PayoutFilter, PayoutItemView, PayoutView, RequestAdjustment,
    WriteOff, views,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Nothing;
use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, NoParameters};
use crate::list::{List, Pager, list_parameters};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::PayoutsRead as u8;
const WRITE: u8 = Scope::PayoutsWrite as u8;
const READ_ADJUSTMENTS: u8 = Scope::AdjustmentsRead as u8;
const ADJUST: u8 = Scope::AdjustmentsWrite as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one))
        .routes(routes!(items))
        .routes(routes!(approve))
        .routes(routes!(submit))
        .routes(routes!(cancel))
        .routes(routes!(adjustments, adjust))
        .routes(routes!(write_off))
        .routes(routes!(adjustment))
        .routes(routes!(approve_adjustment))
}

/// Makes a payout batch of what is payable at the cut-off, less what was taken back since. With `dry_run` nothing is
/// written and the answer (200) shows what the batch would be.
#[utoipa::path(post, path = "/v1/payouts", tag = "payouts", security(("api_key" = ["payouts:write"])),
    request_body = CreatePayout,
    responses((status = 201, body = PayoutView), (status = 200, description = "What it would be.", body = PayoutView)))]
async fn create(command: Command<CreatePayout, WRITE>) -> Reply {
    let status = if command.body.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    let settings = command.head.state.payments;
    command.run(status, move |tx, create| create.run(tx, &settings)).await
}

list_parameters! {
    /// Which payouts.
    PayoutParameters {
        /// In this state.
        state: PayoutState,
        /// In this currency.
        currency: Currency,
        /// Made at or after.
        created_from: Timestamp,
        /// Made before.
        created_to: Timestamp,
    }
}

/// The payout batches, without their items.
#[utoipa::path(get, path = "/v1/payouts", tag = "payouts", security(("api_key" = ["payouts:read"])),
    params(PayoutParameters), responses((status = 200, body = List<PayoutView>)))]
async fn list(get: Get<PayoutParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let PayoutParameters { state, currency, created_from, created_to, .. } = asked;
        let filter = PayoutFilter { state, currency, created_from, created_to };
        Ok(pager.list(views::list(reader, &filter, &page)?))
    })
    .await
}

/// A payout batch with its items and the partners that it leaves out.
#[utoipa::path(get, path = "/v1/payouts/{id}", tag = "payouts", security(("api_key" = ["payouts:read"])),
    params(("id" = PayoutId, Path)), responses((status = 200, body = PayoutView)))]
async fn one(AtPath(id): AtPath<PayoutId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| views::one(reader, id)).await
}

list_parameters! {
    /// Which items.
    ItemParameters {}
}

/// The items of a payout batch: one per partner.
#[utoipa::path(get, path = "/v1/payouts/{id}/items", tag = "payouts", security(("api_key" = ["payouts:read"])),
    params(("id" = PayoutId, Path), ItemParameters), responses((status = 200, body = List<PayoutItemView>)))]
async fn items(AtPath(id): AtPath<PayoutId>, get: Get<ItemParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        Ok(pager.list(views::items(reader, id, &page)?))
    })
    .await
}

/// Approves a batch; above the limit by another actor than its creator.
#[utoipa::path(post, path = "/v1/payouts/{id}/approve", tag = "payouts", security(("api_key" = ["payouts:approve"])),
    params(("id" = PayoutId, Path)), request_body = Option<Nothing>, responses((status = 200, body = PayoutView)))]
async fn approve(AtPath(id): AtPath<PayoutId>, command: Command<Nothing, { Scope::PayoutsApprove as u8 }>) -> Reply {
    let settings = command.head.state.payments;
    command.run(StatusCode::OK, move |tx, _| payments::approve(tx, id, &settings)).await
}

/// Hands an approved batch over for payment.
#[utoipa::path(post, path = "/v1/payouts/{id}/submit", tag = "payouts", security(("api_key" = ["payouts:write"])),
    params(("id" = PayoutId, Path)), request_body = Option<Nothing>, responses((status = 200, body = PayoutView)))]
async fn submit(AtPath(id): AtPath<PayoutId>, command: Command<Nothing, WRITE>) -> Reply {
    command.run(StatusCode::OK, move |tx, _| payments::submit(tx, id)).await
}

/// Gives up a batch that has not been submitted: every item is payable again.
#[utoipa::path(post, path = "/v1/payouts/{id}/cancel", tag = "payouts", security(("api_key" = ["payouts:write"])),
    params(("id" = PayoutId, Path)), request_body = Option<Nothing>, responses((status = 200, body = PayoutView)))]
async fn cancel(AtPath(id): AtPath<PayoutId>, command: Command<Nothing, WRITE>) -> Reply {
    command.run(StatusCode::OK, move |tx, _| payments::cancel(tx, id)).await
}

/// Asks for an adjustment of a partner's balance; somebody else approves it.
#[utoipa::path(post, path = "/v1/adjustments", tag = "adjustments", security(("api_key" = ["adjustments:write"])),
    request_body = RequestAdjustment, responses((status = 201, body = AdjustmentView)))]
async fn adjust(command: Command<RequestAdjustment, ADJUST>) -> Reply {
    command.run(StatusCode::CREATED, |tx, request| request.run(tx)).await
}

/// Asks for a negative payable balance to be given up; somebody else approves it.
#[utoipa::path(post, path = "/v1/adjustments/write-off", tag = "adjustments",
    security(("api_key" = ["adjustments:write"])), request_body = WriteOff,
    responses((status = 201, body = AdjustmentView)))]
async fn write_off(command: Command<WriteOff, ADJUST>) -> Reply {
    command.run(StatusCode::CREATED, |tx, request| request.run(tx)).await
}

list_parameters! {
    /// Which adjustments.
    AdjustmentParameters {
        /// In this state.
        state: AdjustmentState,
        /// Of this partner.
        partner_id: PartnerId,
        /// Asked for at or after.
        created_from: Timestamp,
        /// Asked for before.
        created_to: Timestamp,
    }
}

/// The adjustments.
#[utoipa::path(get, path = "/v1/adjustments", tag = "adjustments", security(("api_key" = ["adjustments:read"])),
    params(AdjustmentParameters), responses((status = 200, body = List<AdjustmentView>)))]
async fn adjustments(get: Get<AdjustmentParameters, READ_ADJUSTMENTS>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let AdjustmentParameters { state, partner_id, created_from, created_to, .. } = asked;
        let filter = AdjustmentFilter { state, partner_id, created_from, created_to };
        Ok(pager.list(views::adjustments(reader, &filter, &page)?))
    })
    .await
}

/// An adjustment.
#[utoipa::path(get, path = "/v1/adjustments/{id}", tag = "adjustments", security(("api_key" = ["adjustments:read"])),
    params(("id" = AdjustmentId, Path)), responses((status = 200, body = AdjustmentView)))]
async fn adjustment(AtPath(id): AtPath<AdjustmentId>, get: Get<NoParameters, READ_ADJUSTMENTS>) -> Reply {
    get.run(move |reader, _| views::adjustment(reader, id)).await
}

/// Approves an adjustment that somebody else asked for, and posts it.
#[utoipa::path(post, path = "/v1/adjustments/{id}/approve", tag = "adjustments",
    security(("api_key" = ["adjustments:approve"])), params(("id" = AdjustmentId, Path)),
    request_body = Option<Nothing>, responses((status = 200, body = AdjustmentView)))]
async fn approve_adjustment(
    AtPath(id): AtPath<AdjustmentId>,
    command: Command<Nothing, { Scope::AdjustmentsApprove as u8 }>,
) -> Reply {
    command.run(StatusCode::OK, move |tx, _| payments::approve_adjustment(tx, id)).await
}
