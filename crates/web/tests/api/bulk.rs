//! Bulk requests: one bad item never fails its neighbours.

use serde_json::json;

use crate::app::App;

#[tokio::test]
async fn every_item_has_its_own_result() {
    let app = App::new();
    let scene = app.scene().await;
    app.post("/v1/conversions", &scene.sale("1")).await;
    let mut wrong = scene.sale("2");
    wrong["amount"]["amount_minor"] = json!(-1);
    let mut differs = scene.sale("1");
    differs["amount"]["amount_minor"] = json!(2);
    let items = json!({"items": [scene.sale("1"), wrong, scene.sale("3"), scene.sale("3"), differs, 7]});
    let answer = app.post("/v1/conversions/bulk", &items).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let results = answer.body["results"].as_array().unwrap();
    let outcomes: Vec<_> = results.iter().map(|r| (r["index"].as_u64(), r["status"].as_u64())).collect();
    let expected = [200, 422, 201, 200, 409, 422].into_iter().enumerate();
    assert_eq!(outcomes, expected.map(|(index, status)| (Some(index as u64), Some(status))).collect::<Vec<_>>());
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "/items/1/amount");
    assert_eq!(results[2]["id"], results[3]["id"]);
    assert_eq!((&results[2]["duplicate"], &results[3]["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(results[4]["problem"]["code"], "fact_differs");
    assert_eq!(results[5]["problem"]["errors"][0]["pointer"], "/items/5");
    let counts = ["recorded", "duplicates", "refused"].map(|name| answer.body[name].as_u64());
    assert_eq!(counts, [Some(1), Some(2), Some(3)]);
}

#[tokio::test]
async fn limits_of_a_bulk_request() {
    let app = App::new();
    let scene = app.scene().await;
    let head = app.db.head();
    let many: Vec<_> = (0..1_001).map(|number| scene.sale(&number.to_string())).collect();
    for items in [json!({"items": []}), json!({"items": many})] {
        let answer = app.post("/v1/conversions/bulk", &items).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.pointer(), "/items");
    }
    for (body, pointer) in [(json!({"item": []}), "/item"), (json!({}), "/items"), (json!({"items": {}}), "/items")] {
        let answer = app.post("/v1/conversions/bulk", &body).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.pointer(), pointer);
    }
    assert_eq!(app.db.head(), head);
    let answer = app.post("/v1/conversions/bulk", &json!({"items": &many[..1_000]})).await;
    assert_eq!((answer.body["recorded"].as_u64(), app.db.head()), (Some(1_000), head + 1_000));
}

#[tokio::test]
async fn a_whole_request_is_replayed_under_its_key() {
    let app = App::new();
    let scene = app.scene().await;
    let items = json!({"items": [scene.sale("1"), 7]});
    let key = [("idempotency-key", "k")];
    let first = app.post_with("/v1/conversions/bulk", &key, &items).await;
    let again = app.post_with("/v1/conversions/bulk", &key, &items).await;
    assert_eq!((&again.headers["idempotency-replayed"], again.body), (&"true".parse().unwrap(), first.body));
}

#[tokio::test]
async fn touches_come_in_bulk_too() {
    let app = App::new();
    let scene = app.scene().await;
    let touch = json!({"source": "s", "external_id": "1", "campaign_id": scene.campaign, "partner_id": scene.partner,
        "customer_ref": "c", "kind": "click", "occurred_at": "2026-01-31T11:00:00Z"});
    let answer = app.post("/v1/touches/bulk", &json!({"items": [touch]})).await;
    assert_eq!(answer.body["results"][0]["status"], 201, "{answer:?}");
}
