//! The main way: a sale comes in, is attributed, earns, and can be read and explained.

use serde_json::json;

use crate::app::{App, react};

#[tokio::test]
async fn a_sale_earns_to_the_cent_and_is_explained() {
    let app = App::new();
    let scene = app.scene().await;
    let receipt = app.post_with("/v1/conversions", &[("x-correlation-id", "order-1")], &scene.sale("1")).await;
    assert_eq!((receipt.status.as_u16(), &receipt.body["duplicate"]), (201, &json!(false)), "{receipt:?}");
    app.react();
    let conversion = app.get(&format!("/v1/conversions/{}", receipt.id())).await;
    assert_eq!(conversion.body["state"], "attributed");
    assert_eq!(conversion.body["partner_id"], scene.partner.as_str());
    // 8 % of 10.05 is 80.4 cents.
    assert_eq!(conversion.body["commission"]["kept_minor"], 80);
    let commission = conversion.body["commission"]["id"].as_str().unwrap();
    let explained = app.get(&format!("/v1/commissions/{commission}/explanation")).await;
    assert_eq!(explained.body["calculation"]["gross_minor"], 80, "{explained:?}");
    let attribution = app.get(&format!("/v1/conversions/{}/attribution", receipt.id())).await;
    assert_eq!(attribution.body["decisions"][0]["candidates"][0]["outcome"], "won");

    let balance = app.get(&format!("/v1/partners/{}/balance?currency=USD", scene.partner)).await;
    assert_eq!(balance.body["balances"][0]["pending_minor"], 80);
    let earlier = format!("/v1/partners/{}/balance?currency=USD&as_of=2026-01-30T00:00:00Z", scene.partner);
    assert_eq!(app.get(&earlier).await.body["balances"][0]["pending_minor"], 0);
    let entries = app.get("/v1/ledger/entries").await;
    assert_eq!(entries.body["items"][0]["debit"], format!("commission_expense:{}", scene.campaign));
    assert_eq!(entries.body["items"][0]["amount"], json!({"amount_minor": 80, "currency": "USD"}));
    for path in ["/v1/ledger/accounts", "/v1/reports/trial-balance"] {
        let accounts = app.get(path).await;
        let sum: i64 = accounts.body["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["balance_minor"].as_i64().unwrap())
            .sum();
        assert_eq!((sum, accounts.body["accounts"].as_array().unwrap().len()), (0, 2));
    }
    let summary = app.get("/v1/reports/summary?group_by=partner").await;
    assert_eq!(summary.body["items"][0]["accrued_minor"], 80, "{summary:?}");
    let statement =
        format!("/v1/partners/{}/statement?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z", scene.partner);
    assert_eq!(app.get(&statement).await.body["balances"][0]["closing"]["pending_minor"], 80);

    let traced = app.get("/v1/events?correlation_id=order-1").await;
    let types: Vec<&str> =
        traced.body["items"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["conversions.recorded.v1", "conversions.attributed.v1", "commissions.accrued.v1"]);
    assert_eq!(traced.body["items"][0]["actor"], "tester");
    assert_eq!(traced.body["items"][1]["causationid"], traced.body["items"][0]["id"]);
}

#[tokio::test]
async fn a_repeat_is_answered_and_another_body_is_refused() {
    let app = App::new();
    let scene = app.scene().await;
    let first = app.post("/v1/conversions", &scene.sale("1")).await;
    let head = app.db.head();
    let again = app.post("/v1/conversions", &scene.sale("1")).await;
    assert_eq!((again.status.as_u16(), again.id(), &again.body["duplicate"]), (200, first.id(), &json!(true)));
    let mut other = scene.sale("1");
    other["amount"]["amount_minor"] = json!(1);
    app.post("/v1/conversions", &other).await.assert_problem(409, "fact_differs");
    assert_eq!(app.db.head(), head);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test stands for the server, which runs the reactions' loop")]
async fn preferring_to_wait_answers_with_the_commission() {
    let app = App::new();
    let scene = app.scene().await;
    let prefer = [("prefer", "wait=10")];
    let (db, state) = (app.db.clone(), app.state.clone());
    let head = db.head();
    let reactions = std::thread::spawn(move || {
        db.wait_past(head, std::time::Duration::from_secs(10));
        react(&db, &state);
    });
    let answer = app.post_with("/v1/conversions", &prefer, &scene.sale("1")).await;
    reactions.join().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body["commission"]["kept_minor"]), (201, &json!(80)), "{answer:?}");
    assert_eq!(answer.headers["preference-applied"], "wait=10");
    let again = app.post_with("/v1/conversions", &prefer, &scene.sale("1")).await;
    assert_eq!((again.status.as_u16(), again.body), (200, answer.body));
}

#[tokio::test]
async fn waiting_in_vain_answers_the_receipt() {
    let app = App::new();
    let scene = app.scene().await;
    let answer = app.post_with("/v1/conversions", &[("prefer", "wait=0")], &scene.sale("1")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (201, &json!("recorded")), "{answer:?}");
}

#[tokio::test]
async fn approvals_need_somebody_else() {
    let app = App::new();
    let scene = app.scene().await;
    let body =
        json!({"partner_id": scene.partner, "amount": {"amount_minor": 500, "currency": "USD"}, "reason": "late"});
    let adjustment = app.post("/v1/adjustments", &body).await.id();
    let path = format!("/v1/adjustments/{adjustment}/approve");
    app.post(&path, &json!({})).await.assert_problem(403, "second_person_needed");
    let key = format!("Bearer {}", app.key("finance", &["adjustments:approve"]));
    let approved = app.request("POST", &path, &[("authorization", &key)], "").await;
    assert_eq!((approved.status.as_u16(), &approved.body["approved_by"]), (200, &json!("finance")), "{approved:?}");
    let balance = app.get(&format!("/v1/partners/{}/balance", scene.partner)).await;
    assert_eq!(balance.body["balances"][0]["payable_minor"], 500);
}

#[tokio::test]
async fn facts_that_wait_are_listed() {
    let app = App::new();
    let scene = app.scene().await;
    let mut sale = scene.sale("1");
    sale["partner_id"] = json!("shopify:77");
    app.post("/v1/conversions", &sale).await;
    app.react();
    let parked = app.get("/v1/parked").await;
    assert_eq!(parked.body["items"][0]["reason"], "partner_unknown", "{parked:?}");
    let statistics = app.get("/v1/events/statistics").await;
    assert_eq!(statistics.body["parked"], 1);
    let lags: Vec<_> = statistics.body["consumers"].as_array().unwrap().iter().map(|c| c["lag"].as_i64()).collect();
    assert_eq!(lags, vec![Some(0); 5]);
}
