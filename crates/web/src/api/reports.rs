//! `/v1/reports`. A partner's statement is below the partner.

use events::commissions::CommissionState;
use kernel::{CampaignId, Currency, PartnerId, Timestamp};
use reports::{GroupBy, SummaryFilter, SummaryRow, summary};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ledger::{AccountsView, AsOf};
use crate::auth::Scope;
use crate::extract::Get;
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::ReportsRead as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(summarise)).routes(routes!(trial_balance))
}

/// Which summary.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SummaryParameters {
    /// What there is one row for, per currency; `partner` when absent.
    group_by: Option<GroupBy>,
    /// Only this partner.
    partner_id: Option<PartnerId>,
    /// Only this campaign.
    campaign_id: Option<CampaignId>,
    /// Only this currency.
    currency: Option<Currency>,
    /// Only commissions in this state.
    state: Option<CommissionState>,
    /// What became known on this instant's UTC day or later.
    from: Option<Timestamp>,
    /// What became known on a UTC day that begins before this instant.
    to: Option<Timestamp>,
}

/// A summary of commissions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SummaryView {
    /// What there is one row for.
    group_by: GroupBy,
    /// The rows.
    items: Vec<SummaryRow>,
}

/// Commissions by partner, campaign, day or state. Built from events: a moment behind what is recorded.
#[utoipa::path(get, path = "/v1/reports/summary", tag = "reports", security(("api_key" = ["reports:read"])),
    params(SummaryParameters), responses((status = 200, body = SummaryView)))]
async fn summarise(get: Get<SummaryParameters, READ>) -> Reply {
    get.run(|reader, asked| {
        let SummaryParameters { group_by, partner_id, campaign_id, currency, state, from, to } = asked;
        let group_by = group_by.unwrap_or(GroupBy::Partner);
        let filter = SummaryFilter { partner_id, campaign_id, currency, state, from, to };
        Ok(SummaryView { group_by, items: summary(reader, group_by, &filter)? })
    })
    .await
}

/// Every account with its debits and credits; the balances sum to zero in every currency.
#[utoipa::path(get, path = "/v1/reports/trial-balance", tag = "reports", security(("api_key" = ["reports:read"])),
    params(AsOf), responses((status = 200, body = AccountsView)))]
async fn trial_balance(get: Get<AsOf, READ>) -> Reply {
    get.run(|reader, asked| AccountsView::read(reader, &asked)).await
}
