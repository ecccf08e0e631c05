//! The routes, one file per context. A handler names its scope, its input and the one call that it makes; whatever all
//! of them have in common is done by the extractors and the outermost layer.

mod bulk;
mod campaigns;
mod commissions;
mod conversions;
mod events;
mod facts;
mod ledger;
mod operations;
mod partners;
mod payments;
mod reports;
mod waiting;

use kernel::{Key, Reason, Reference};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;

use crate::problem::ProblemBody;
use crate::state::State;

pub use events::Statistics;
pub(crate) use operations::{pages, routes as operations};

/// Every route that the description lists.
pub(crate) fn routes() -> OpenApiRouter<State> {
    [
        partners::routes(),
        campaigns::routes(),
        facts::routes(),
        conversions::routes(),
        commissions::routes(),
        payments::routes(),
        ledger::routes(),
        reports::routes(),
        events::routes(),
        waiting::routes(),
        operations::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::new(), OpenApiRouter::merge)
}

/// Whether the path takes facts, which may be refused when too many come at once.
pub(crate) fn is_fact(path: &str) -> bool {
    ["/v1/touches", "/v1/conversions", "/v1/refunds"].contains(&path.trim_end_matches("/bulk"))
}

/// The schema of every error.
pub(crate) fn problem_schema() -> (String, RefOr<Schema>) {
    (ProblemBody::name().into_owned(), ProblemBody::schema())
}

/// The body of an action that may say why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    /// Why; kept with the event.
    #[serde(default)]
    reason: Option<Reason>,
}

/// The body of an action that needs nothing: none, or an empty object.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `system:id`, as a parameter.
#[derive(Debug)]
struct ExternalRef(Reference);

impl<'de> Deserialize<'de> for ExternalRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (system, id) = text.split_once(':').ok_or_else(|| serde::de::Error::custom("expected system:id"))?;
        let key = |part: &str| Key::new(part).map_err(serde::de::Error::custom);
        Ok(Self(Reference { system: key(system)?, id: key(id)? }))
    }
}

/// Defines the handlers of the plain changes of a state: one POST each, all alike but for name and action.
macro_rules! actions {
    ($tag:literal, $id:ty, $view:ty, $change:expr;
     $($(#[$doc:meta])* $name:ident $path:literal $scope_name:literal $scope:ident $action:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = $tag, security(("api_key" = [$scope_name])),
            params(("id" = $id, Path)), request_body = Option<crate::api::Because>,
            responses((status = 200, body = $view)))]
        async fn $name(
            crate::extract::AtPath(id): crate::extract::AtPath<$id>,
            command: crate::extract::Command<crate::api::Because, { crate::auth::Scope::$scope as u8 }>,
        ) -> crate::problem::Reply {
            let status = axum::http::StatusCode::OK;
            command.run(status, move |tx, because| $change(tx, id, $action, because.reason.clone())).await
        }
    )*};
}
use actions;
