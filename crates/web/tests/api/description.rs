//! The description against the routes: scopes, statuses, and that it is complete.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::{App, Options};

struct Operation {
    method: String,
    path: String,
    scope: Option<String>,
    statuses: Vec<String>,
}

fn operations() -> Vec<Operation> {
    let description: Value = serde_json::from_str(&web::openapi()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["api_key"][0].as_str().map(str::to_owned);
            let statuses = operation["responses"].as_object().unwrap().keys().cloned().collect();
            let path = path.replace("{id}", "01890a5d-ac96-774b-bcce-b302099a8057");
            let path = path.replace("{enrollment_id}", "01890a5d-ac96-774b-bcce-b302099a8057");
            found.push(Operation { method: method.to_uppercase(), path, scope, statuses });
        }
    }
    found
}

#[tokio::test]
async fn every_operation_needs_the_scope_that_it_documents() {
    let app = App::with(Options { access: web::Access::Keys, ..Options::default() });
    let scopes: Vec<&str> = web::Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let mut keys = BTreeMap::new();
    for scope in &scopes {
        let others: Vec<&str> = scopes.iter().copied().filter(|other| other != scope).collect();
        let pair = (format!("Bearer {}", app.key(scope, &[*scope])), format!("Bearer {}", app.key(scope, &others)));
        keys.insert((*scope).to_owned(), pair);
    }
    let operations = operations();
    assert!(operations.len() > 60, "{} operations", operations.len());
    for Operation { method, path, scope, statuses } in operations {
        let ask = async |key: &str| {
            let headers = [("content-type", "application/json"), ("authorization", key)];
            let headers = if key.is_empty() { &headers[..1] } else { &headers[..] };
            app.request(&method, &path, headers, if method == "GET" { "" } else { "{}" }).await
        };
        let Some(scope) = scope else {
            assert!(!path.starts_with("/v1"), "{method} {path} documents no scope");
            let answer = ask("").await;
            assert!(statuses.contains(&answer.status.as_str().to_owned()), "{method} {path}: {answer:?}");
            continue;
        };
        let (with, without) = &keys[&scope];
        ask("").await.assert_problem(401, "unauthenticated");
        ask(without).await.assert_problem(403, "scope_missing");
        let answer = ask(with).await;
        assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path} with {scope}: {answer:?}");
        assert!(statuses.contains(&answer.status.as_str().to_owned()), "{method} {path}: {answer:?}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let description: Value = serde_json::from_str(&web::openapi()).unwrap();
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 100);
    found.retain(|reference| description.pointer(reference.strip_prefix('#').unwrap()).is_none());
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn pages_for_operators_need_no_key() {
    let app = App::with(Options { access: web::Access::Keys, ..Options::default() });
    assert_eq!(app.get("/health/live").await.body, json!({"status": "ok"}));
    app.get("/health/ready").await.assert_problem(503, "unavailable");
    app.react();
    assert_eq!(app.get("/health/ready").await.status.as_u16(), 200);
    assert_eq!(app.get("/openapi.json").await.body["openapi"], "3.1.0");
    assert!(app.get("/docs/").await.body.as_str().unwrap().contains("swagger-ui"));
    assert!(app.get("/docs/problems").await.body.as_str().unwrap().contains("id=\"fact_differs\""));
    assert!(app.get("/docs/events").await.body.as_str().unwrap().contains("id=\"commissions.accrued.v1\""));
}

#[tokio::test]
async fn metrics_count_requests_and_the_database() {
    let app = App::new();
    let scene = app.scene().await;
    app.post("/v1/conversions", &scene.sale("1")).await;
    app.get("/v1/nothing").await;
    app.react();
    let page = app.get("/metrics").await;
    let page = page.body.as_str().unwrap();
    for line in [
        "alpes_http_requests_total{method=\"POST\",route=\"/v1/conversions\",status=\"2xx\"} 1",
        "alpes_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"4xx\"} 1",
        "alpes_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/conversions\",status=\"2xx\"} 1",
        "alpes_intake_batch_facts_count 1",
        "alpes_intake_queue_facts 0",
        "alpes_consumer_lag_events{consumer=\"commissions\"} 0",
        "alpes_database_writes_stopped 0",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
    assert!(page.contains("alpes_database_commits_total ") && page.contains("alpes_database_statements_total "));
}

#[tokio::test]
async fn what_is_kept_outside_is_shown_with_its_alarms() {
    let app = App::new();
    let before = app.get("/v1/events/statistics").await;
    assert_eq!(before.body["outside"], json!({ "slots": [], "backlogs": [], "unseen": [] }));
    app.state.set_outside(web::Outside {
        observed_at: Some(app.db.now()),
        slots: vec![web::SlotView {
            name: "alpes_relay_pulsar".to_owned(),
            status: "extended".to_owned(),
            is_active: false,
            behind_bytes: Some(7_000_000),
            limit_bytes: None,
            alarm: Some("7 MB behind, and nobody reads it".to_owned()),
        }],
        backlogs: vec![web::BacklogView {
            topic: "persistent://public/alpes/partners.partner".to_owned(),
            subscription: "crm".to_owned(),
            messages: 3,
            alarm: None,
        }],
        unseen: vec!["the broker: away".to_owned()],
    });
    let outside = app.get("/v1/events/statistics").await.body["outside"].clone();
    assert_eq!(outside["slots"][0]["alarm"], "7 MB behind, and nobody reads it", "{outside}");
    assert_eq!((&outside["backlogs"][0]["messages"], &outside["unseen"][0]), (&json!(3), &json!("the broker: away")));
    let page = app.get("/metrics").await;
    for line in [
        "alpes_slot_behind_bytes{slot=\"alpes_relay_pulsar\"} 7000000",
        "alpes_topic_backlog_messages{topic=\"persistent://public/alpes/partners.partner\",subscription=\"crm\"} 3",
        "alpes_alarms 1",
        "alpes_outside_unseen 1",
    ] {
        assert!(page.body.as_str().unwrap().contains(line), "{line} is missing in {:?}", page.body);
    }
}

#[tokio::test]
async fn a_defect_of_ours_shows_nothing_of_its_insides() {
    let app = App::new();
    let path = "/v1/dead-letters/01890a5d-ac96-774b-bcce-b302099a8057/replay";
    let answer = app.post(path, &json!({})).await;
    answer.assert_problem(500, "internal");
    assert!(!answer.body.to_string().contains("replay breaks"), "{answer:?}");
}
