//! What a `POST /v1/conversions` costs: the handler (from the request's head to the response, without hyper) and the
//! recording of its fact, measured apart on one thread. `cargo run --release -p web --example hot_path`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use kernel::{Clock, IdSource, Timestamp};
use platform::{Db, DbOptions, Lane};
use tower::ServiceExt as _;

const REQUESTS_PER_ROUND: u32 = 32;
const ROUNDS: u32 = 1_000;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_769_860_800_000_000)
    }
}

#[expect(clippy::disallowed_methods, reason = "an example that measures")]
fn moment() -> Instant {
    Instant::now()
}

fn request(key: &str, number: u32) -> Request<Body> {
    let body = format!(
        "{{\"source\":\"bench\",\"external_id\":\"{number:010}\",\"campaign_id\":\"cmp_01h455vb4pex5vsknk084sn02q\",\
         \"code\":\"P01\",\"customer_ref\":\"c{:06}\",\"occurred_at\":\"2026-01-31T11:00:00Z\",\
         \"amount\":{{\"amount_minor\":12345,\"currency\":\"USD\"}}}}",
        number % 1_000
    );
    let request = Request::post("/v1/conversions").header("content-type", "application/json");
    request.header("authorization", format!("Bearer {key}")).body(Body::from(body)).expect("a valid request")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> kernel::Result<()> {
    let migrations = vec![platform::MIGRATIONS, campaigns::MIGRATIONS, conversions::MIGRATIONS, web::MIGRATIONS];
    let ids = IdSource::from_number(1);
    let db = Arc::new(Db::in_memory(DbOptions { clock: Arc::new(FixedClock), ids, hook: None, migrations })?);
    let new = web::keys::NewKey::parse("bench", &["*".to_owned()], None)?;
    let key = db.write("keys", Lane::Front, "cli", |tx| web::keys::create(tx, &new, [7; 32]))?.key;
    let (intake, mut committer) = web::Intake::new(10_000);
    let state = web::State::new(web::Services {
        db: db.clone(),
        access: web::Access::Keys,
        intake,
        customers: conversions::CustomerKeys::load_or_create(&db)?,
        payments: payments::Settings { approval_limit_minor: 0, gateway: "sandbox" },
        replay: Arc::new(|_| Ok(0)),
    })?;
    let router = web::router(state);
    let (mut handling, mut recording) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let numbers = (0..REQUESTS_PER_ROUND).map(|number| round * REQUESTS_PER_ROUND + number);
        let requests: Vec<Request<Body>> = numbers.map(|number| request(&key, number)).collect();
        let begun = moment();
        let mut tasks = tokio::task::JoinSet::new();
        for request in requests {
            tasks.spawn(router.clone().oneshot(request));
        }
        tokio::task::yield_now().await;
        let handed_over = moment();
        let recorded = committer.step(&db, Duration::ZERO);
        assert_eq!(recorded, REQUESTS_PER_ROUND as usize, "every request waits for the commit");
        let committed = moment();
        for answer in tasks.join_all().await {
            assert_eq!(answer.expect("infallible").status(), 201);
        }
        recording += committed - handed_over;
        handling += handed_over - begun + committed.elapsed();
    }
    let requests = REQUESTS_PER_ROUND * ROUNDS;
    println!("{requests} requests: handling {:?} each, recording {:?} each", handling / requests, recording / requests);
    Ok(())
}
