//! For operators: health, metrics, the description and its pages. None of them needs a key: they tell counts, and no
//! name, id or amount.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use kernel::{Fault, problems};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::extract::json_response;
use crate::problem::Reply;
use crate::state::State;
use crate::{metrics, openapi, problem};

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(numbers)).routes(routes!(describe))
}

/// The pages for people, which the description does not list.
pub(crate) fn pages() -> Router<State> {
    let swagger = SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    Router::from(swagger).route("/docs/problems", get(problem_page)).route("/docs/events", get(event_page))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Health {
    /// `ok`
    status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, body = Health)))]
async fn live() -> Reply {
    healthy()
}

/// The database can be read and written, and every consumer runs.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses((status = 200, body = Health)))]
async fn ready(Shared(state): Shared<State>) -> Reply {
    let checked = state.blocking(|state| {
        let unavailable = |detail: &str| Err(Fault::new(&problems::UNAVAILABLE, detail));
        let head = state.db.read(platform::event_log::head)?;
        if state.db.is_stopped() {
            return unavailable("a write to the disk failed; restart to go on");
        }
        if head < 0 || state.progress().positions.is_empty() {
            return unavailable("the consumers have not started yet");
        }
        Ok(())
    });
    checked.await?;
    healthy()
}

fn healthy() -> Reply {
    Ok(json_response(StatusCode::OK, br#"{"status":"ok"}"#.to_vec()))
}

/// Counts and lags, as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String)))]
async fn numbers(Shared(state): Shared<State>) -> Reply {
    let page = state.blocking(metrics::page).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
async fn describe() -> Response {
    json_response(StatusCode::OK, openapi::document().into_bytes())
}

/// The page that the `type` of every error points at.
async fn problem_page() -> Html<String> {
    let mut problems = crate::problems();
    problems.sort_by_key(|problem| problem.code);
    let mut page = heading("Problems");
    for entry in problems {
        let (code, status) = (entry.code, problem::status(entry.kind).as_u16());
        page += &format!("<h2 id=\"{code}\">{code}</h2><p>{status}: {}</p><p>{}</p>", entry.title, entry.remedy);
    }
    Html(page)
}

/// The page that the `dataschema` of every event points at.
async fn event_page() -> Html<String> {
    let mut page = heading("Events");
    for entry in events::catalogue() {
        let (name, sample) = (entry.event_type, (entry.sample)().replace('&', "&amp;").replace('<', "&lt;"));
        page += &format!("<h2 id=\"{name}\">{name}</h2><p>{}</p><pre>{sample}</pre>", entry.meaning);
    }
    Html(page)
}

fn heading(title: &str) -> String {
    format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><h1>{title}</h1>")
}
