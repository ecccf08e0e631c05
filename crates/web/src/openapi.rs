//! The API's description: collected from the routes, then completed with what operations have in common, so that no
//! route can forget it: the problems that it may answer and the headers that it takes.

use std::sync::OnceLock;

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, PathItem, Ref, RefOr,
    ResponseBuilder, Type,
};

use crate::api;
use crate::problem::PROBLEM_JSON;

const DESCRIPTION: &str = "Partner marketing that can be trusted: conversions come in once, each commission is computed \
    exactly once under the terms in force, and every amount can be explained.\n\n\
    A 2xx answer means durable. Errors are `application/problem+json` with a stable `code`; `/docs/problems` lists them. \
    Every POST and PATCH takes `Idempotency-Key`; facts (touches, conversions, refunds) do not need it, because their \
    natural key `(source, external_id)` answers for ever. Lists are keyset pages: pass `next_cursor` as `cursor`.";

/// The API's description as pretty JSON, the same for the same code.
pub fn document() -> String {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let make = || {
        let (_, mut collected) = api::routes().split_for_parts();
        complete(&mut collected);
        collected.to_pretty_json().expect("a description is plain data and always serialises")
    };
    DOCUMENT.get_or_init(make).clone()
}

fn complete(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("Alpes")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0 OR MIT").build()))
        .build();
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key made by `alpes keys create`; its scopes say what it may do."))
        .build();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem =
        ResponseBuilder::new().description("Refused; `code` says why.").content(PROBLEM_JSON, content).build();
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("api_key", SecurityScheme::Http(key));
    components.responses.insert("Problem".to_owned(), problem.into());
    let (name, schema) = api::problem_schema();
    components.schemas.insert("FieldError".to_owned(), <kernel::FieldError as utoipa::PartialSchema>::schema());
    components.schemas.insert(name, schema);
    for (path, item) in &mut document.paths.paths {
        complete_path(path, item);
    }
}

fn complete_path(path: &str, item: &mut PathItem) {
    if let Some(operation) = &mut item.get {
        may_answer(operation, if path.starts_with("/v1") { &["400", "401", "403", "422"] } else { &[] });
        may_answer(operation, &["500", "503"]);
    }
    for operation in [&mut item.post, &mut item.patch].into_iter().flatten() {
        may_answer(operation, &["400", "401", "403", "409", "413", "415", "422", "500", "503"]);
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(RefOr::T(header(
            "Idempotency-Key",
            "A repeat under the same key with the same body gets the stored reply, with `Idempotency-Replayed: true`.",
        )));
        parameters
            .push(RefOr::T(header("X-Correlation-Id", "Kept with the events of facts, to find your own traces.")));
        if api::is_fact(path) {
            may_answer(operation, &["429"]);
        }
    }
    if path.contains('{') {
        for operation in [&mut item.get, &mut item.post, &mut item.patch].into_iter().flatten() {
            may_answer(operation, &["404"]);
        }
    }
}

fn may_answer(operation: &mut Operation, statuses: &[&str]) {
    for status in statuses {
        let problem = || RefOr::Ref(Ref::from_response_name("Problem"));
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(problem);
    }
}

fn header(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,200}$"));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(utoipa::openapi::Required::False)
        .description(Some(description))
        .schema(Some(text))
        .build()
}
