//! Lists: pages, cursors, totals, order.

use serde_json::json;

use crate::app::App;

async fn partners(app: &App, count: usize) {
    for number in 0..count {
        let body = json!({"kind": "affiliate", "name": format!("P{number}"), "external_refs": [{"system": "crm", "id": format!("{number}")}]});
        assert_eq!(app.post("/v1/partners", &body).await.status.as_u16(), 201);
    }
}

#[tokio::test]
async fn pages_have_every_item_once_in_both_orders() {
    let app = App::new();
    partners(&app, 7).await;
    for (order, expected) in [("asc", "P0 P1 P2 P3 P4 P5 P6"), ("desc", "P6 P5 P4 P3 P2 P1 P0")] {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = app.get(&format!("/v1/partners?limit=3&order={order}&include_total=true{cursor}")).await;
            assert_eq!(page.body["total"], 7);
            names.extend(page.body["items"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()));
            assert_eq!(page.body["has_more"], page.body["next_cursor"].is_string());
            let Some(next) = page.body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(names.join(" "), expected);
    }
    let found = app.get("/v1/partners?external_ref=crm:4").await;
    assert_eq!(
        (found.body["items"][0]["name"].as_str(), found.body["items"].as_array().unwrap().len()),
        (Some("P4"), 1)
    );
}

#[tokio::test]
async fn a_cursor_belongs_to_its_list() {
    let app = App::new();
    partners(&app, 2).await;
    let page = app.get("/v1/partners?limit=1").await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let tampered = format!("{}{}", if cursor.starts_with('0') { '1' } else { '0' }, &cursor[1..]);
    for path in [
        format!("/v1/partners?cursor={tampered}"),
        "/v1/partners?cursor=".to_owned(),
        "/v1/partners?cursor=%00".to_owned(),
        format!("/v1/campaigns?cursor={cursor}"),
        format!("/v1/ledger/entries?cursor={cursor}"),
    ] {
        app.get(&path).await.assert_problem(400, "cursor_invalid");
    }
}

#[tokio::test]
async fn events_are_pulled_from_any_position() {
    let app = App::new();
    partners(&app, 5).await;
    let page = app.get("/v1/events?limit=2").await;
    assert_eq!(page.body["items"][1]["sequence"], "2");
    assert_eq!((&page.body["has_more"], &page.body["next_after"]), (&json!(true), &json!(2)));
    let page = app.get("/v1/events?after=2&limit=3").await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), 3);
    assert_eq!((&page.body["has_more"], &page.body["next_after"]), (&json!(false), &json!(5)));
    assert_eq!(app.get("/v1/events?after=5").await.body["items"], json!([]));
    let newest = app.get("/v1/events?order=desc&limit=2").await;
    assert_eq!((&newest.body["items"][0]["sequence"], &newest.body["next_after"]), (&json!("5"), &json!(4)));
    let rest = app.get("/v1/events?order=desc&after=4").await;
    assert_eq!((rest.body["items"].as_array().unwrap().len(), &rest.body["has_more"]), (3, &json!(false)));
    let subject = page.body["items"][0]["subject"].as_str().unwrap();
    for order in ["asc", "desc"] {
        let own = app.get(&format!("/v1/events?subject={subject}&order={order}")).await;
        assert_eq!((&own.body["items"][0]["sequence"], own.body["items"].as_array().unwrap().len()), (&json!("3"), 1));
    }
    assert_eq!(app.get("/v1/events?type=partners.activated.v1").await.body["items"], json!([]));
    app.get("/v1/events?after=-1").await.assert_problem(422, "invalid");
}

#[tokio::test]
async fn entries_have_cursors_too() {
    let app = App::new();
    let scene = app.scene().await;
    for number in 0..3 {
        app.post("/v1/conversions", &scene.sale(&number.to_string())).await;
    }
    app.react();
    let page = app.get("/v1/ledger/entries?limit=2").await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), 2);
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let last = app.get(&format!("/v1/ledger/entries?limit=2&cursor={cursor}")).await;
    assert_eq!((last.body["items"].as_array().unwrap().len(), &last.body["has_more"]), (1, &json!(false)));
}
