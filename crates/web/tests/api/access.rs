//! Keys, scopes, and the way in without keys.

use serde_json::json;

use crate::app::{App, Options};

fn guarded() -> App {
    App::with(Options { access: web::Access::Keys, ..Options::default() })
}

#[tokio::test]
async fn a_key_is_needed_and_must_be_right() {
    let app = guarded();
    let key = app.key("shop", &["partners:read"]);
    let ask = async |header: &str| app.request("GET", "/v1/partners", &[("authorization", header)], "").await;
    let answer = app.get("/v1/partners").await;
    answer.assert_problem(401, "unauthenticated");
    assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"alpes\"");
    assert_eq!(ask(&format!("Bearer {key}")).await.status.as_u16(), 200);
    assert_eq!(ask(&format!("bearer {key}")).await.status.as_u16(), 200);
    let wrong_end = format!("Bearer {}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    for header in ["", "Bearer", "Bearer ", "Bearer alp_x_y", &format!("Basic {key}"), &wrong_end, &key] {
        ask(header).await.assert_problem(401, "unauthenticated");
    }
    app.get("/v1/partners/nonsense").await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say() {
    let app = guarded();
    let key = format!("Bearer {}", app.key("shop", &["conversions:write"]));
    let headers = [("authorization", key.as_str())];
    app.request("GET", "/v1/partners", &headers, "").await.assert_problem(403, "scope_missing");
    let sale = json!({
        "source": "shop", "external_id": "1", "occurred_at": "2026-01-31T11:00:00Z",
        "amount": {"amount_minor": 1, "currency": "USD"},
        "terms": {"components": [{"type": "flat", "amount_minor": 100}]},
    });
    app.post_with("/v1/conversions", &headers, &sale).await.assert_problem(403, "scope_missing");
    let bulk = app.post_with("/v1/conversions/bulk", &headers, &json!({"items": [sale]})).await;
    assert_eq!(bulk.body["results"][0]["problem"]["code"], "scope_missing");
    let both = format!("Bearer {}", app.key("boss", &["conversions:*", "terms:override"]));
    let answer = app.post_with("/v1/conversions", &[("authorization", &both)], &sale).await;
    assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
}

#[tokio::test]
async fn keys_end() {
    let app = guarded();
    let key = format!("Bearer {}", app.key("shop", &["partners:read"]));
    let ask = async || app.request("GET", "/v1/partners", &[("authorization", &key)], "").await.status.as_u16();
    assert_eq!(ask().await, 200);
    let known = app.db.read(web::keys::list).unwrap();
    assert_eq!((known.len(), known[0].name.as_str(), &known[0].revoked_at), (1, "shop", &None));
    let expires_at = known[0].expires_at.unwrap();
    app.clock.set(expires_at);
    assert_eq!(ask().await, 401);
    app.clock.set(known[0].created_at);
    let revoke = || app.db.write("keys", platform::Lane::Front, "cli", |tx| web::keys::revoke(tx, known[0].id));
    revoke().unwrap();
    app.state.refresh_keys().unwrap();
    assert_eq!(ask().await, 401);
    let revoked_at = app.db.read(web::keys::list).unwrap()[0].revoked_at;
    revoke().unwrap();
    assert_eq!(app.db.read(web::keys::list).unwrap()[0].revoked_at, revoked_at);
}

#[test]
fn keys_are_refused_that_nobody_could_tell_apart() {
    let parse = |name: &str, scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        web::keys::NewKey::parse(name, &scopes, None)
    };
    assert!(parse("shop", &["*"]).is_ok());
    for (name, scopes) in [("", &["*"][..]), ("system", &["*"]), ("a\nb", &["*"]), ("shop", &[]), ("shop", &["all"])] {
        assert!(parse(name, scopes).is_err(), "{name:?} {scopes:?}");
    }
}

#[tokio::test]
async fn without_keys_only_this_machine_is_answered() {
    let app = App::new();
    let ask = async |headers: &[(&str, &str)]| app.request("GET", "/v1/partners", headers, "").await;
    assert_eq!(ask(&[("host", "127.0.0.1:8080")]).await.status.as_u16(), 200);
    ask(&[("host", "alpes.example.com")]).await.assert_problem(403, "foreign_page");
    let page = [("host", "localhost:8080"), ("origin", "https://evil.example.com")];
    ask(&page).await.assert_problem(403, "foreign_page");
    ask(&[("authorization", "Bearer alp_x_y")]).await.assert_problem(401, "unauthenticated");
}
