//! `/v1/commissions`.

use axum::http::StatusCode;
use commissions::{
    CommissionAction, CommissionFilter, CommissionView, ExplanationView, approve_many, explanation, views,
};
use events::commissions::CommissionState;
use kernel::{CampaignId, CommissionId, ConversionId, Fault, PartnerId, Timestamp, problems};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::actions;
use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, NoParameters};
use crate::list::{List, Pager, list_parameters};
use crate::problem::{ProblemBody, Reply};
use crate::state::State;

const READ: u8 = Scope::CommissionsRead as u8;
/// Commissions that one request approves at most.
const MOST_APPROVALS: usize = 1_000;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(approve_list))
        .routes(routes!(one))
        .routes(routes!(explain))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(hold))
        .routes(routes!(release))
}

list_parameters! {
    /// Which commissions.
    CommissionParameters {
        /// In this state.
        state: CommissionState,
        /// Of this partner.
        partner_id: PartnerId,
        /// Of this campaign.
        campaign_id: CampaignId,
        /// Of this conversion.
        conversion_id: ConversionId,
        /// Waiting for a person's approval, or not.
        queued: bool,
        /// Computed at or after.
        created_from: Timestamp,
        /// Computed before.
        created_to: Timestamp,
    }
}

/// The commissions, in the order of their computation.
#[utoipa::path(get, path = "/v1/commissions", tag = "commissions", security(("api_key" = ["commissions:read"])),
    params(CommissionParameters), responses((status = 200, body = List<CommissionView>)))]
async fn list(get: Get<CommissionParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let CommissionParameters { state, partner_id, campaign_id, conversion_id, .. } = asked;
        let CommissionParameters { queued, created_from, created_to, .. } = asked;
        let filter =
            CommissionFilter { state, partner_id, campaign_id, conversion_id, queued, created_from, created_to };
        Ok(pager.list(views::list(reader, &filter, &page)?))
    })
    .await
}

/// A commission.
#[utoipa::path(get, path = "/v1/commissions/{id}", tag = "commissions", security(("api_key" = ["commissions:read"])),
    params(("id" = CommissionId, Path)), responses((status = 200, body = CommissionView)))]
async fn one(AtPath(id): AtPath<CommissionId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| views::one(reader, id)).await
}

/// Why a commission is what it is: inputs, terms, every step with its rounding, entries, history.
#[utoipa::path(get, path = "/v1/commissions/{id}/explanation", tag = "commissions",
    security(("api_key" = ["commissions:read"])), params(("id" = CommissionId, Path)),
    responses((status = 200, body = ExplanationView)))]
async fn explain(AtPath(id): AtPath<CommissionId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| explanation(reader, id)).await
}

actions! { "commissions", CommissionId, CommissionView, commissions::change;
    /// Approves a commission: it becomes payable.
    approve "/v1/commissions/{id}/approve" "commissions:approve" CommissionsApprove CommissionAction::Approve;
    /// Rejects a commission: what was accrued is undone.
    reject "/v1/commissions/{id}/reject" "commissions:write" CommissionsWrite CommissionAction::Reject;
    /// Holds a commission until it is released.
    hold "/v1/commissions/{id}/hold" "commissions:write" CommissionsWrite CommissionAction::Hold;
    /// Releases a commission that is held.
    release "/v1/commissions/{id}/release" "commissions:write" CommissionsWrite CommissionAction::Release;
}

/// Approves many commissions.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ApproveMany {
    /// The commissions, 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<CommissionId>,
}

/// What became of one commission.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApprovalResult {
    /// The commission.
    id: CommissionId,
    /// 200, or the status of the problem.
    status: u16,
    /// Why it is not approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// What became of each.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApprovalResults {
    /// One result per id, in the order of the request.
    results: Vec<ApprovalResult>,
    /// How many are approved now.
    approved: usize,
    /// How many are not.
    refused: usize,
}

/// Approves many commissions in one transaction; one that cannot be approved does not hold up the others.
#[utoipa::path(post, path = "/v1/commissions/approve", tag = "commissions",
    security(("api_key" = ["commissions:approve"])), request_body = ApproveMany,
    responses((status = 200, body = ApprovalResults)))]
async fn approve_list(command: Command<ApproveMany, { Scope::CommissionsApprove as u8 }>) -> Reply {
    let count = command.body.ids.len();
    if !(1..=MOST_APPROVALS).contains(&count) {
        return Err(Fault::at(&problems::INVALID, "/ids", "expected 1 to 1000 ids").into());
    }
    command
        .run(StatusCode::OK, |tx, approve| {
            let results: Vec<ApprovalResult> = approve_many(tx, &approve.ids)?
                .into_iter()
                .map(|(id, result)| {
                    let problem = result.err().map(|fault| ProblemBody::of_item(&fault));
                    ApprovalResult { id, status: problem.as_ref().map_or(200, ProblemBody::status), problem }
                })
                .collect();
            let refused = results.iter().filter(|result| result.problem.is_some()).count();
            Ok(ApprovalResults { approved: results.len() - refused, refused, results })
        })
        .await
}
