//! `/v1/partners`.

use axum::http::StatusCode;
use events::partners::{PartnerKind, PartnerState};
use kernel::{Currency, Fault, PartnerId, Timestamp, problems};
use ledger::Balance;
use partners::{Apply, PartnerAction, PartnerFilter, PartnerView, Update, views};
use platform::event_log;
use reports::StatementView;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ExternalRef, actions};
use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, NoParameters};
use crate::list::{List, Pager, list_parameters};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::PartnersRead as u8;
const WRITE: u8 = Scope::PartnersWrite as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, apply))
        .routes(routes!(one, update))
        .routes(routes!(activate))
        .routes(routes!(reject))
        .routes(routes!(suspend))
        .routes(routes!(reinstate))
        .routes(routes!(terminate))
        .routes(routes!(balance))
        .routes(routes!(statement))
}

/// A partner applies.
#[utoipa::path(post, path = "/v1/partners", tag = "partners", security(("api_key" = ["partners:write"])),
    request_body = Apply, responses((status = 201, body = PartnerView)))]
async fn apply(command: Command<Apply, WRITE>) -> Reply {
    command.run(StatusCode::CREATED, |tx, apply| apply.run(tx)).await
}

list_parameters! {
    /// Which partners.
    PartnerParameters {
        /// In this state.
        state: PartnerState,
        /// Of this kind.
        kind: PartnerKind,
        /// With this external reference, `system:id`.
        #[param(value_type = Option<String>)]
        external_ref: ExternalRef,
        /// Created at or after.
        created_from: Timestamp,
        /// Created before.
        created_to: Timestamp,
    }
}

/// The partners, in the order of their creation.
#[utoipa::path(get, path = "/v1/partners", tag = "partners", security(("api_key" = ["partners:read"])),
    params(PartnerParameters), responses((status = 200, body = List<PartnerView>)))]
async fn list(get: Get<PartnerParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let PartnerParameters { state, kind, external_ref, created_from, created_to, .. } = asked;
        let external_ref = external_ref.map(|ExternalRef(reference)| reference);
        let filter = PartnerFilter { state, kind, external_ref, created_from, created_to };
        Ok(pager.list(views::list(reader, &filter, &page)?))
    })
    .await
}

/// A partner.
#[utoipa::path(get, path = "/v1/partners/{id}", tag = "partners", security(("api_key" = ["partners:read"])),
    params(("id" = PartnerId, Path)), responses((status = 200, body = PartnerView)))]
async fn one(AtPath(id): AtPath<PartnerId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| views::one(reader, id)).await
}

/// Changes a partner's data; what is absent stays as it is.
#[utoipa::path(patch, path = "/v1/partners/{id}", tag = "partners", security(("api_key" = ["partners:write"])),
    params(("id" = PartnerId, Path)), request_body = inline(Update), responses((status = 200, body = PartnerView)))]
async fn update(AtPath(id): AtPath<PartnerId>, command: Command<Update, WRITE>) -> Reply {
    command.run(StatusCode::OK, move |tx, update| update.run(tx, id)).await
}

actions! { "partners", PartnerId, PartnerView, partners::change;
    /// Accepts a partner: it earns from the start of the campaigns that it is enrolled in.
    activate "/v1/partners/{id}/activate" "partners:write" PartnersWrite PartnerAction::Activate;
    /// Refuses an application.
    reject "/v1/partners/{id}/reject" "partners:write" PartnersWrite PartnerAction::Reject;
    /// Stops a partner from earning, from now on; approval and payout wait.
    suspend "/v1/partners/{id}/suspend" "partners:write" PartnersWrite PartnerAction::Suspend;
    /// Lets a suspended partner earn again, from now on.
    reinstate "/v1/partners/{id}/reinstate" "partners:write" PartnersWrite PartnerAction::Reinstate;
    /// Ends a partner's earning, from now on and for ever.
    terminate "/v1/partners/{id}/terminate" "partners:write" PartnersWrite PartnerAction::Terminate;
}

/// Which balance.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BalanceParameters {
    /// Only this currency.
    currency: Option<Currency>,
    /// As it was known at this time; now when absent.
    as_of: Option<Timestamp>,
}

/// A partner's balance in one currency.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct BalanceView {
    /// The currency.
    currency: Currency,
    /// The balances.
    #[serde(flatten)]
    balance: Balance,
}

/// A partner's balances at one time.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct BalancesView {
    /// The partner.
    partner_id: PartnerId,
    /// The last event that the balances know.
    position: i64,
    /// One balance per currency; all zero in a currency that was asked for and never used.
    balances: Vec<BalanceView>,
}

/// What a partner is owed and was paid: accrued − reversed + adjusted + written off = pending + payable + in payout +
/// paid.
#[utoipa::path(get, path = "/v1/partners/{id}/balance", tag = "partners", security(("api_key" = ["ledger:read"])),
    params(("id" = PartnerId, Path), BalanceParameters), responses((status = 200, body = BalancesView)))]
async fn balance(
    AtPath(partner_id): AtPath<PartnerId>,
    get: Get<BalanceParameters, { Scope::LedgerRead as u8 }>,
) -> Reply {
    get.run(move |reader, asked| {
        views::one(reader, partner_id)?;
        let position = match asked.as_of {
            Some(time) => event_log::position_at(reader, time)?,
            None => event_log::head(reader)?,
        };
        let mut balances: Vec<BalanceView> = ledger::balances(reader, position, Some(partner_id))?
            .into_iter()
            .filter(|found| asked.currency.is_none_or(|currency| found.currency == currency))
            .map(|found| BalanceView { currency: found.currency, balance: found.balance })
            .collect();
        if let (Some(currency), true) = (asked.currency, balances.is_empty()) {
            balances.push(BalanceView { currency, balance: Balance::default() });
        }
        Ok(BalancesView { partner_id, position, balances })
    })
    .await
}

/// Which period.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatementParameters {
    /// The first instant of the period.
    from: Timestamp,
    /// The first instant after it.
    to: Timestamp,
}

/// A partner's statement: the balances before and after a period, and every entry in it.
#[utoipa::path(get, path = "/v1/partners/{id}/statement", tag = "partners", security(("api_key" = ["reports:read"])),
    params(("id" = PartnerId, Path), StatementParameters), responses((status = 200, body = StatementView)))]
async fn statement(
    AtPath(partner_id): AtPath<PartnerId>,
    get: Get<StatementParameters, { Scope::ReportsRead as u8 }>,
) -> Reply {
    get.run(move |reader, asked| {
        if asked.to < asked.from {
            return Err(Fault::at(&problems::INVALID, "/query/to", "must not be before from"));
        }
        views::one(reader, partner_id)?;
        reports::statement(reader, partner_id, asked.from, asked.to)
    })
    .await
}
