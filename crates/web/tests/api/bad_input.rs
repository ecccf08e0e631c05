//! Bad input: each row answers 4xx with its pointer, and changes nothing.

use serde_json::{Value, json};

use crate::app::{App, Scene, campaign};

/// Sends `body` and asserts that it is refused like this and that no event was written.
async fn refused(app: &App, path: &str, body: String, status: u16, code: &str, pointer: &str) {
    let head = app.db.head();
    let shown: String = body.chars().take(300).collect();
    let answer = app.post_text(path, &[], body).await;
    answer.assert_problem(status, code);
    assert_eq!(answer.pointer(), pointer, "{shown}: {answer:?}");
    assert_eq!(app.db.head(), head, "{shown}");
}

fn with(scene: &Scene, pointer: &str, value: Value) -> String {
    let mut sale = scene.sale("1");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    sale.pointer_mut(parent).unwrap()[name] = value;
    sale.to_string()
}

#[tokio::test]
async fn amounts_and_currencies() {
    let app = App::new();
    let scene = app.scene().await;
    let sale = scene.sale("1").to_string();
    for (amount, place) in [
        ("-1", "/amount"),
        ("10.5", "/amount/amount_minor"),
        ("1e400", "/amount/amount_minor"),
        ("9223372036854775808", "/amount/amount_minor"),
        ("\"1005\"", "/amount/amount_minor"),
        ("null", "/amount/amount_minor"),
    ] {
        refused(&app, "/v1/conversions", sale.replace("1005", amount), 422, "invalid", place).await;
    }
    refused(&app, "/v1/conversions", sale.replace("1005", "NaN"), 400, "malformed_json", "/amount/amount_minor").await;
    for currency in ["usd", "XXX", "US", "", "USDT", "€"] {
        let body = with(&scene, "/amount/currency", json!(currency));
        refused(&app, "/v1/conversions", body, 422, "invalid", "/amount/currency").await;
    }
    let body = with(&scene, "/amount/currency", json!("EUR"));
    let answer = app.post_text("/v1/conversions", &[], body).await;
    answer.assert_problem(422, "currency_mismatch");
}

#[tokio::test]
async fn ids_and_dates_and_unknown_fields() {
    let app = App::new();
    let scene = app.scene().await;
    for bad in ["", &"x".repeat(10_240), "a\0b", "a\r\nb", "a\u{202e}b", "a\u{200f}b"] {
        for field in ["/external_id", "/source", "/code", "/click_id", "/customer_ref"] {
            refused(&app, "/v1/conversions", with(&scene, field, json!(bad)), 422, "invalid", field).await;
        }
    }
    for bad in ["", "ptr_zzz", "no colon"] {
        let field = "/partner_id";
        refused(&app, "/v1/conversions", with(&scene, field, json!(bad)), 422, "invalid", field).await;
    }
    for bad in ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-01-31T11:00:00", "2026-02-30T00:00:00Z", "1"] {
        let field = "/occurred_at";
        refused(&app, "/v1/conversions", with(&scene, field, json!(bad)), 422, "invalid", field).await;
    }
    let future = with(&scene, "/occurred_at", json!("2027-01-01T00:00:00Z"));
    refused(&app, "/v1/conversions", future, 422, "occurred_in_future", "/occurred_at").await;
    for field in ["/status", "/rate", "/amount/rate"] {
        refused(&app, "/v1/conversions", with(&scene, field, json!("x")), 422, "invalid", field).await;
    }
    let missing = json!({"source": "shop"}).to_string();
    refused(&app, "/v1/conversions", missing, 422, "invalid", "/external_id").await;
}

#[tokio::test]
async fn documents_that_are_none() {
    let app = App::new();
    let scene = app.scene().await;
    let sale = scene.sale("1").to_string();
    let metadata = |inside: &str| format!("{},\"metadata\":{inside}}}", sale.strip_suffix('}').unwrap());
    let path = "/v1/conversions";
    refused(&app, path, format!("{sale}{{}}"), 400, "malformed_json", "").await;
    refused(&app, path, sale[..sale.len() - 2].to_owned(), 400, "malformed_json", "/source").await;
    let deep = metadata(&format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000)));
    let answer = app.post_text(path, &[], deep).await;
    answer.assert_problem(400, "malformed_json");
    assert!(answer.pointer().starts_with("/metadata/a/a"), "{answer:?}");
    let twice = sale.replacen('{', "{\"source\":\"x\",", 1);
    refused(&app, path, twice, 422, "invalid", "/source").await;
    refused(&app, path, metadata("{\"a\":{\"b\":1,\"b\":1}}"), 422, "invalid", "/metadata/a/b").await;

    let utf16: Vec<u8> = sale.encode_utf16().flat_map(u16::to_le_bytes).collect();
    app.post_text(path, &[], utf16).await.assert_problem(400, "malformed_json");
    app.post_text(path, &[], " ".repeat(10_000_000)).await.assert_problem(413, "body_too_large");
    app.post_text(path, &[], " ".repeat((64 << 10) + 1)).await.assert_problem(413, "body_too_large");
    app.post_text("/v1/conversions/bulk", &[], " ".repeat((4 << 20) + 1)).await.assert_problem(413, "body_too_large");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
        let answer = app.request("POST", path, &[("content-type", content_type)], sale.clone()).await;
        answer.assert_problem(415, "unsupported_media_type");
    }
    app.request("POST", path, &[], sale.clone()).await.assert_problem(415, "unsupported_media_type");
    assert!(app.post_text(path, &[], sale).await.status.is_success(), "the sale itself is right");
}

#[tokio::test]
async fn paths_methods_headers_and_queries() {
    let app = App::new();
    app.get("/v1/nothing").await.assert_problem(404, "not_found");
    app.get("/v1/partners/cmp_01h455vb4pex5vsknk084sn02q").await.assert_problem(404, "not_found");
    app.get("/v1/partners/01890a5d-ac96-774b-bcce-b302099a8057").await.assert_problem(404, "partner_not_found");
    let answer = app.request("DELETE", "/v1/partners", &[], "").await;
    answer.assert_problem(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET,HEAD,POST");
    let partner = json!({"kind": "affiliate", "name": "One"});
    for (name, value) in [("idempotency-key", "a b"), ("x-correlation-id", ""), ("correlationid", &"x".repeat(201))] {
        let answer = app.post_with("/v1/partners", &[(name, value)], &partner).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.pointer(), format!("/headers/{name}"));
    }
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("state=happy", "state"),
        ("status=active", "status"),
        ("limit=1&limit=2", "limit"),
        ("external_ref=nosystem", "external_ref"),
        ("created_from=yesterday", "created_from"),
    ] {
        let answer = app.get(&format!("/v1/partners?{query}")).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.pointer(), format!("/query/{name}"), "{query}: {answer:?}");
    }
    app.post("/v1/partners?dry_run=true", &partner).await.assert_problem(422, "invalid");
    assert_eq!(app.db.head(), 0);
}

#[tokio::test]
async fn rules_of_the_domain() {
    let app = App::new();
    let scene = app.scene().await;
    let illegal = app.post(&format!("/v1/partners/{}/reject", scene.partner), &json!({})).await;
    illegal.assert_problem(409, "illegal_transition");
    let detail = illegal.body["detail"].as_str().unwrap();
    assert!(detail.contains("allowed: suspend, terminate"), "{detail}");

    app.post("/v1/conversions", &scene.sale("1")).await;
    app.react();
    let refund = json!({
        "source": "shop", "external_id": "r1", "conversion_external_id": "1", "occurred_at": "2026-01-31T11:30:00Z",
        "amount": {"amount_minor": 10_06, "currency": "USD"}, "reason": "broken", "kind": "refund",
    });
    let answer = app.post("/v1/refunds", &refund).await;
    answer.assert_problem(422, "refund_exceeds_conversion");
    let terms = json!({"valid_from": "2026-01-30T00:00:00Z", "terms": campaign()["terms"]});
    let answer = app.post(&format!("/v1/campaigns/{}/terms", scene.campaign), &terms).await;
    answer.assert_problem(422, "terms_backdated");
}
