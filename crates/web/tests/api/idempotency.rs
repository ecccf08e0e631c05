//! Idempotency-Key: one effect, one reply.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::App;

#[tokio::test]
async fn a_repeat_gets_the_stored_reply_and_another_body_is_refused() {
    let app = App::new();
    let key = [("idempotency-key", "k-1")];
    let body = json!({"kind": "affiliate", "name": "One", "email": "one@example.com"});
    let first = app.post_with("/v1/partners", &key, &body).await;
    assert_eq!((first.status.as_u16(), first.headers.get("idempotency-replayed")), (201, None));
    let head = app.db.head();
    let again = app.post_with("/v1/partners", &key, &body).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let other = json!({"kind": "affiliate", "name": "Two"});
    app.post_with("/v1/partners", &key, &other).await.assert_problem(422, "idempotency_key_reused");
    let elsewhere = format!("/v1/partners/{}/activate", first.id());
    app.post_with(&elsewhere, &key, &body).await.assert_problem(422, "invalid");
    app.post_with(&elsewhere, &key, &json!({})).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(app.db.head(), head);
}

#[tokio::test]
async fn a_refusal_is_not_stored() {
    let app = App::new();
    let key = [("idempotency-key", "k-1")];
    let taken = json!({"kind": "affiliate", "name": "One", "email": "one@example.com"});
    app.post("/v1/partners", &taken).await;
    app.post_with("/v1/partners", &key, &taken).await.assert_problem(409, "email_taken");
    let free = json!({"kind": "affiliate", "name": "One", "email": "two@example.com"});
    assert_eq!(app.post_with("/v1/partners", &key, &free).await.status.as_u16(), 201);
}

#[tokio::test]
async fn facts_honour_it_in_their_own_transaction() {
    let app = App::new();
    let scene = app.scene().await;
    let key = [("idempotency-key", "k-1")];
    let first = app.post_with("/v1/conversions", &key, &scene.sale("1")).await;
    let again = app.post_with("/v1/conversions", &key, &scene.sale("1")).await;
    assert_eq!((again.status.as_u16(), &again.body), (201, &first.body));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let head = app.db.head();
    app.post_with("/v1/conversions", &key, &scene.sale("2")).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(app.db.head(), head);
}

/// 100 requests at once, then one more; the ids and statuses of those that were not told that the first is under way.
async fn at_once(app: &Arc<App>, path: &'static str, body: Value, key: &'static str) -> BTreeSet<(u16, String)> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (app, body) = (Arc::clone(app), body.clone());
        tasks.spawn(async move { app.post_with(path, &[("idempotency-key", key)], &body).await });
    }
    let mut answers = tasks.join_all().await;
    answers.push(app.post_with(path, &[("idempotency-key", key)], &body).await);
    let (under_way, answered): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status.as_u16() == 409);
    under_way.iter().for_each(|answer| answer.assert_problem(409, "idempotency_key_in_flight"));
    answered.iter().map(|answer| (answer.status.as_u16(), answer.id())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_have_one_effect() {
    let app = Arc::new(App::new());
    let scene = app.scene().await;
    let head = app.db.head();
    let partners = at_once(&app, "/v1/partners", json!({"kind": "company", "name": "One"}), "k-1").await;
    assert_eq!((partners.len(), app.db.head()), (1, head + 1), "{partners:?}");
    let touch = json!({"source": "s", "external_id": "1", "campaign_id": scene.campaign, "partner_id": scene.partner,
        "customer_ref": "c", "kind": "click", "occurred_at": "2026-01-31T11:00:00Z"});
    let touches = at_once(&app, "/v1/touches", touch, "k-2").await;
    assert_eq!((touches.len(), app.db.head()), (1, head + 2), "{touches:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_under_way_is_a_conflict_until_its_request_is_answered() {
    let app = Arc::new(App::new());
    let scene = app.scene().await;
    let key = [("idempotency-key", "k-1")];
    // The writer is taken: the first request waits for it.
    let writer = app.db.turn(platform::Lane::Front);
    let mut first = tokio::task::JoinSet::new();
    first.spawn({
        let (app, sale) = (Arc::clone(&app), scene.sale("1"));
        // The probe below claims the key too, for a moment.
        async move {
            loop {
                let answer = app.post_with("/v1/conversions", &key, &sale).await;
                if answer.status.as_u16() != 409 {
                    return answer;
                }
            }
        }
    });
    let second = loop {
        // Only a request that has read its body claims its key.
        let answer = app.post_with("/v1/partners", &key, &json!({"kind": "company"})).await;
        if answer.status.as_u16() == 409 {
            break answer;
        }
        answer.assert_problem(422, "invalid");
        tokio::task::yield_now().await;
    };
    second.assert_problem(409, "idempotency_key_in_flight");
    drop(writer);
    let first = first.join_next().await.unwrap().unwrap();
    assert_eq!(first.status.as_u16(), 201);
    let again = app.post_with("/v1/conversions", &key, &scene.sale("1")).await;
    assert_eq!((&again.headers["idempotency-replayed"], again.body), (&"true".parse().unwrap(), first.body));
}
