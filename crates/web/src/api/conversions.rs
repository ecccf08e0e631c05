//! `/v1/conversions`, for reading and for operators; how they come in is in `facts` and `bulk`.

use axum::http::StatusCode;
use commissions::{CommissionView, live_of};
use conversions::{Attribute, AttributionView, ConversionFilter, ConversionView, RefundView, views};
use events::conversions::{ConversionKind, ConversionState};
use kernel::{CampaignId, ConversionId, Key, PartnerId, Result, Timestamp};
use platform::Reader;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Scope;
use crate::extract::{AtPath, Command, Get, NoParameters};
use crate::list::{List, Pager, list_parameters};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::ConversionsRead as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(attribution))
        .routes(routes!(refunds))
        .routes(routes!(attribute))
}

list_parameters! {
    /// Which conversions.
    ConversionParameters {
        /// In this state.
        state: ConversionState,
        /// Of this kind.
        kind: ConversionKind,
        /// Credited to this partner.
        partner_id: PartnerId,
        /// Of this campaign, as decided.
        campaign_id: CampaignId,
        /// Told by this system.
        source: Key,
        /// With this id there.
        external_id: Key,
        /// Happened at or after.
        occurred_from: Timestamp,
        /// Happened before.
        occurred_to: Timestamp,
    }
}

/// The conversions, in the order in which they were recorded.
#[utoipa::path(get, path = "/v1/conversions", tag = "conversions", security(("api_key" = ["conversions:read"])),
    params(ConversionParameters), responses((status = 200, body = List<ConversionView>)))]
async fn list(get: Get<ConversionParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, mut asked| {
        let page = pager.page(&asked.paging())?;
        let filter = ConversionFilter {
            state: asked.state,
            kind: asked.kind,
            partner_id: asked.partner_id,
            campaign_id: asked.campaign_id,
            source: asked.source,
            external_id: asked.external_id,
            occurred_from: asked.occurred_from,
            occurred_to: asked.occurred_to,
        };
        Ok(pager.list(views::list(reader, &filter, &page)?))
    })
    .await
}

/// A conversion with its live commission.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ConversionDetail {
    /// The conversion.
    #[serde(flatten)]
    conversion: ConversionView,
    /// What it earns; none when it earns nothing, or nothing yet.
    commission: Option<CommissionView>,
}

impl ConversionDetail {
    /// The conversion and its live commission. Fault: `conversion_not_found`.
    pub(super) fn read(reader: &Reader<'_>, id: ConversionId) -> Result<Self> {
        let conversion = views::one(reader, id)?;
        Ok(Self { conversion, commission: live_of(reader, &[id])?.remove(&id) })
    }
}

/// A conversion with its live commission.
#[utoipa::path(get, path = "/v1/conversions/{id}", tag = "conversions", security(("api_key" = ["conversions:read"])),
    params(("id" = ConversionId, Path)), responses((status = 200, body = ConversionDetail)))]
async fn one(AtPath(id): AtPath<ConversionId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| ConversionDetail::read(reader, id)).await
}

/// How a conversion came to be credited: its numbered decisions, with every candidate and why it won or lost.
#[utoipa::path(get, path = "/v1/conversions/{id}/attribution", tag = "conversions",
    security(("api_key" = ["conversions:read"])), params(("id" = ConversionId, Path)),
    responses((status = 200, body = AttributionView)))]
async fn attribution(AtPath(id): AtPath<ConversionId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| views::attribution(reader, id)).await
}

/// The refunds of a conversion.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RefundsOfConversion {
    /// The refunds, in the order in which they were recorded.
    items: Vec<RefundView>,
}

/// What was taken back of a conversion, and won back.
#[utoipa::path(get, path = "/v1/conversions/{id}/refunds", tag = "conversions",
    security(("api_key" = ["conversions:read"])), params(("id" = ConversionId, Path)),
    responses((status = 200, body = RefundsOfConversion)))]
async fn refunds(AtPath(id): AtPath<ConversionId>, get: Get<NoParameters, READ>) -> Reply {
    get.run(move |reader, _| Ok(RefundsOfConversion { items: views::refunds(reader, id)? })).await
}

/// Attributes a conversion by hand; the decision stands until another one by hand.
#[utoipa::path(post, path = "/v1/conversions/{id}/attribute", tag = "conversions",
    security(("api_key" = ["conversions:attribute"])), params(("id" = ConversionId, Path)),
    request_body = Attribute, responses((status = 200, body = ConversionView)))]
async fn attribute(
    AtPath(id): AtPath<ConversionId>,
    command: Command<Attribute, { Scope::ConversionsAttribute as u8 }>,
) -> Reply {
    command.run(StatusCode::OK, move |tx, attribute| attribute.run(tx, id)).await
}
