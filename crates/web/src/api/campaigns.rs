//! `/v1/campaigns`.

use axum::http::StatusCode;
use campaigns::{
    CampaignAction, CampaignFilter, CampaignView, ChangeBudget, CloseEnrollment, Create, Enroll, EnrollmentFilter,
    EnrollmentState, EnrollmentView, PublishTerms, Update, views,
};
use events::campaigns::CampaignState;
use kernel::{CampaignId, EnrollmentId, PartnerId, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ExternalRef, actions};
use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, NoParameters};
use crate::list::{List, Pager, list_parameters};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::CampaignsRead as u8;
const WRITE: u8 = Scope::CampaignsWrite as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, update))
        .routes(routes!(activate))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(complete))
        .routes(routes!(cancel))
        .routes(routes!(change_budget))
        .routes(routes!(publish_terms))
        .routes(routes!(enrollments, enroll))
        .routes(routes!(close_enrollment))
}

/// Creates a campaign, as a draft with the first version of its terms.
#[utoipa::path(post, path = "/v1/campaigns", tag = "campaigns", security(("api_key" = ["campaigns:write"])),
    request_body = Create, responses((status = 201, body = CampaignView)))]
async fn create(command: Command<Create, WRITE>) -> Reply {
    command.run(StatusCode::CREATED, |tx, create| create.run(tx)).await
}

list_parameters! {
    /// Which campaigns.
    CampaignParameters {
        /// In this state.
        state: CampaignState,
        /// With this external reference, `system:id`.
        #[param(value_type = Option<String>)]
        external_ref: ExternalRef,
        /// Created at or after.
        created_from: Timestamp,
        /// Created before.
        created_to: Timestamp,
    }
}

/// The campaigns, in the order of their creation.
#[utoipa::path(get, path = "/v1/campaigns", tag = "campaigns", security(("api_key" = ["campaigns:read"])),
    params(CampaignParameters), responses((status = 200, body = List<CampaignView>)))]
async fn list(get: Get<CampaignParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let CampaignParameters { state, external_ref, created_from, created_to, .. } = asked;
        let external_ref = external_ref.map(|ExternalRef(reference)| reference);
        let filter = CampaignFilter { state, external_ref, created_from, created_to };
        Ok(pager.list(views::list(reader, &filter, &page)?))
    })
    .await
}

/// A campaign.
#[utoipa::path(get, path = "/v1/campaigns/{id}", tag = "campaigns", security(("api_key" = ["campaigns:read"])),
    params(("id" = CampaignId, Path)), responses((status = 200, body = CampaignView)))]
async fn one(AtPath(id): AtPath<CampaignId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| views::one(reader, id)).await
}

/// Changes a campaign's data; what is absent stays as it is.
#[utoipa::path(patch, path = "/v1/campaigns/{id}", tag = "campaigns", security(("api_key" = ["campaigns:write"])),
    params(("id" = CampaignId, Path)), request_body = inline(Update), responses((status = 200, body = CampaignView)))]
async fn update(AtPath(id): AtPath<CampaignId>, command: Command<Update, WRITE>) -> Reply {
    command.run(StatusCode::OK, move |tx, update| update.run(tx, id)).await
}

actions! { "campaigns", CampaignId, CampaignView, campaigns::change;
    /// Lets a draft run; facts that waited for it go on.
    activate "/v1/campaigns/{id}/activate" "campaigns:write" CampaignsWrite CampaignAction::Activate;
    /// Lets a campaign stand still from now on: what occurs meanwhile is rejected.
    pause "/v1/campaigns/{id}/pause" "campaigns:write" CampaignsWrite CampaignAction::Pause;
    /// Lets a paused campaign run again from now on.
    resume "/v1/campaigns/{id}/resume" "campaigns:write" CampaignsWrite CampaignAction::Resume;
    /// Ends a campaign as planned, now.
    complete "/v1/campaigns/{id}/complete" "campaigns:write" CampaignsWrite CampaignAction::Complete;
    /// Ends a campaign early, now, or gives up a draft.
    cancel "/v1/campaigns/{id}/cancel" "campaigns:write" CampaignsWrite CampaignAction::Cancel;
}

/// Sets, changes or removes the budget.
#[utoipa::path(post, path = "/v1/campaigns/{id}/budget", tag = "campaigns",
    security(("api_key" = ["campaigns:write"])), params(("id" = CampaignId, Path)), request_body = ChangeBudget,
    responses((status = 200, body = CampaignView)))]
async fn change_budget(AtPath(id): AtPath<CampaignId>, command: Command<ChangeBudget, WRITE>) -> Reply {
    command.run(StatusCode::OK, move |tx, change| change.run(tx, id)).await
}

/// Publishes the next version of the terms. Versions are never edited, and no existing commission changes.
#[utoipa::path(post, path = "/v1/campaigns/{id}/terms", tag = "campaigns",
    security(("api_key" = ["campaigns:write"])), params(("id" = CampaignId, Path)), request_body = PublishTerms,
    responses((status = 201, body = CampaignView)))]
async fn publish_terms(AtPath(id): AtPath<CampaignId>, command: Command<PublishTerms, WRITE>) -> Reply {
    command.run(StatusCode::CREATED, move |tx, publish| publish.run(tx, id)).await
}

/// Enrols a partner, with a code if it has one.
#[utoipa::path(post, path = "/v1/campaigns/{id}/enrollments", tag = "campaigns",
    security(("api_key" = ["campaigns:write"])), params(("id" = CampaignId, Path)), request_body = Enroll,
    responses((status = 201, body = EnrollmentView)))]
async fn enroll(AtPath(id): AtPath<CampaignId>, command: Command<Enroll, WRITE>) -> Reply {
    command.run(StatusCode::CREATED, move |tx, enroll| enroll.run(tx, id)).await
}

list_parameters! {
    /// Which enrolments.
    EnrollmentParameters {
        /// Of this partner.
        partner_id: PartnerId,
        /// In this state.
        state: EnrollmentState,
    }
}

/// The enrolments of a campaign, in the order in which they were opened.
#[utoipa::path(get, path = "/v1/campaigns/{id}/enrollments", tag = "campaigns",
    security(("api_key" = ["campaigns:read"])), params(("id" = CampaignId, Path), EnrollmentParameters),
    responses((status = 200, body = List<EnrollmentView>)))]
async fn enrollments(AtPath(id): AtPath<CampaignId>, get: Get<EnrollmentParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let filter = EnrollmentFilter { partner_id: asked.partner_id, state: asked.state };
        Ok(pager.list(views::enrollments(reader, id, &filter, &page)?))
    })
    .await
}

/// Closes an enrolment, now or later.
#[utoipa::path(post, path = "/v1/campaigns/{id}/enrollments/{enrollment_id}/close", tag = "campaigns",
    security(("api_key" = ["campaigns:write"])),
    params(("id" = CampaignId, Path), ("enrollment_id" = EnrollmentId, Path)),
    request_body = Option<CloseEnrollment>, responses((status = 200, body = EnrollmentView)))]
async fn close_enrollment(
    AtPath((campaign_id, id)): AtPath<(CampaignId, EnrollmentId)>,
    command: Command<CloseEnrollment, WRITE>,
) -> Reply {
    command.run(StatusCode::OK, move |tx, close| close.run(tx, campaign_id, id)).await
}
