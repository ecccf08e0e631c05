//! HTTP: the only crate that knows it. Problems, authentication, strict extractors, the intake queue, the API and its
//! description. It must not hold a rule of the domain: every handler is one call of a context's function.

mod api;
mod auth;
mod extract;
mod headers;
mod intake;
mod json;
pub mod keys;
mod list;
mod metrics;
mod observe;
mod openapi;
mod outside;
mod problem;
mod state;

use axum::Router;
use axum::middleware::from_fn_with_state;
use kernel::Problem;
use platform::Migration;
use tower_http::catch_panic::CatchPanicLayer;

pub use api::Statistics;
pub use auth::{Access, Scope};
pub use extract::read_body;
pub use intake::{Answer, Committer, Intake, Job, LARGEST_BATCH, Outcome};
pub use openapi::document as openapi;
pub use outside::{BacklogView, Outside, SlotView};
pub use problem::status;
pub use state::{Progress, Replay, Services, State};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration::new(70, "web", include_str!("../migrations/0070_web.sql"))];

/// The whole HTTP interface.
pub fn router(state: State) -> Router {
    let (routes, _) = api::routes().split_for_parts();
    observed(routes.merge(api::pages()), state)
}

/// What a process answers that does not serve the API: health and metrics.
pub fn operations(state: State) -> Router {
    let (routes, _) = api::operations().split_for_parts();
    observed(routes, state)
}

fn observed(routes: Router<State>, state: State) -> Router {
    routes
        .layer(CatchPanicLayer::custom(observe::panicked))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .with_state(state)
}

/// The catalogue of problems of every crate, for the page of problems.
pub fn problems() -> Vec<&'static Problem> {
    let mut all = [problem::PROBLEMS, keys::PROBLEMS, kernel::PROBLEMS].concat();
    all.extend(platform::problems());
    for context in
        [partners::PROBLEMS, campaigns::PROBLEMS, conversions::PROBLEMS, commissions::PROBLEMS, payments::PROBLEMS]
    {
        all.extend(context);
    }
    all
}
