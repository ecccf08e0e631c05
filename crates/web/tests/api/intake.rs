//! The intake queue: full, shared, and with a batch that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::{Fault, IdSource, ManualClock, Result, Timestamp};
use platform::{Db, DbOptions, Hook};
use web::{Answer, Committer, Intake, Job, Outcome};

use crate::app::{App, NOW, Options};

struct Bench {
    db: Db,
    customers: conversions::CustomerKeys,
    intake: Intake,
    committer: Committer,
}

impl Bench {
    fn new(capacity_facts: usize, hook: Option<Hook>) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(NOW)));
        let migrations = vec![platform::MIGRATIONS, campaigns::MIGRATIONS, conversions::MIGRATIONS];
        let db = Db::in_memory(DbOptions { clock, ids: IdSource::from_number(1), hook, migrations }).unwrap();
        let customers = conversions::CustomerKeys::load_or_create(&db).unwrap();
        let (intake, committer) = Intake::new(capacity_facts);
        Self { db, customers, intake, committer }
    }

    fn submit(&self, actor: &str, external_ids: &[&str]) -> Result<Answer> {
        let facts = external_ids.iter().map(|external_id| {
            let sale = serde_json::json!({
                "source": "shop", "external_id": external_id, "occurred_at": "2026-01-31T11:00:00Z",
                "amount": {"amount_minor": 1, "currency": "USD"},
            });
            let fact = conversions::Fact::Conversion(serde_json::from_value(sale).unwrap());
            conversions::prepare(fact, &self.customers, self.db.now()).unwrap()
        });
        let (job, answer) = Job::new(actor.into(), facts.collect(), None);
        self.intake.submit(job).map(|()| answer)
    }

    fn step(&mut self) -> usize {
        self.committer.step(&self.db, Duration::ZERO)
    }

    fn commits(&self) -> u64 {
        self.db.stats().commits.load(Ordering::Relaxed)
    }
}

fn recorded(mut answer: Answer) -> usize {
    match answer.try_recv().unwrap() {
        Ok(Outcome::Recorded(results)) => results.iter().filter(|result| result.is_ok()).count(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_shares_one_transaction() {
    let mut bench = Bench::new(1_000, None);
    let answers: Vec<Answer> = (0..20).map(|n| bench.submit("a", &[&n.to_string()]).unwrap()).collect();
    let before = bench.commits();
    assert_eq!((bench.step(), bench.commits() - before), (20, 1));
    assert!(answers.into_iter().all(|answer| recorded(answer) == 1));
    assert_eq!((bench.step(), bench.commits() - before), (0, 1));
}

#[test]
fn a_batch_ends_at_its_limit_and_each_actor_has_its_own() {
    let mut bench = Bench::new(1_000, None);
    bench.committer.max_batch = 1;
    let answers = [bench.submit("a", &["1", "2"]).unwrap(), bench.submit("a", &["3"]).unwrap()];
    assert_eq!((bench.step(), bench.step()), (2, 1));
    assert_eq!(answers.map(recorded), [2, 1]);
    bench.committer.max_batch = 512;
    let before = bench.commits();
    let answers = ["a", "b", "a"].map(|actor| bench.submit(actor, &[actor]).unwrap());
    assert_eq!((bench.step(), bench.commits() - before), (3, 2));
    assert_eq!(answers.map(recorded), [1, 1, 1]);
    let events = bench.db.read(|reader| platform::event_log::range(reader, 3, 6, &[], 10)).unwrap();
    assert_eq!(events.iter().map(|event| event.actor.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let mut bench = Bench::new(3, None);
    let first = bench.submit("a", &["1", "2"]).unwrap();
    assert_eq!(bench.submit("a", &["3", "4"]).unwrap_err().code(), "overloaded");
    let second = bench.submit("a", &["3"]).unwrap();
    assert_eq!(bench.submit("a", &["4"]).unwrap_err().code(), "overloaded");
    assert_eq!(bench.step(), 3);
    assert_eq!([first, second].map(recorded), [2, 1]);
    // Larger than the queue, and yet taken when nothing waits.
    assert!(bench.submit("a", &["4", "5", "6", "7"]).is_ok());
}

/// A hook that fails the commits of the intake with these numbers, counted from 0.
fn failing(numbers: &'static [usize]) -> Hook {
    let count = AtomicUsize::new(0);
    Arc::new(move |name, moment| {
        if name != "intake" || moment != "before_commit" {
            return Ok(());
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        if numbers.contains(&number) { Err(Fault::internal("planted")) } else { Ok(()) }
    })
}

#[test]
fn a_poisonous_job_fails_alone() {
    // The batch fails, then the second of its jobs.
    let mut bench = Bench::new(1_000, Some(failing(&[0, 2])));
    let [first, mut second, third] = ["1", "2", "3"].map(|id| bench.submit("a", &[id]).unwrap());
    assert_eq!(bench.step(), 3);
    assert_eq!((recorded(first), recorded(third)), (1, 1));
    assert_eq!(second.try_recv().unwrap().unwrap_err().code(), "internal");
    assert_eq!(bench.db.head(), 2);
}

#[tokio::test]
async fn overload_is_answered_with_a_time_to_come_back() {
    let app = App::with(Options { capacity_facts: 1, commits: false, ..Options::default() });
    let sale = |id: &str| {
        serde_json::json!({"source": "shop", "external_id": id, "occurred_at": "2026-01-31T11:00:00Z",
            "amount": {"amount_minor": 1, "currency": "USD"}})
    };
    let waits = app.router.clone();
    let first = tokio::time::timeout(Duration::from_millis(50), {
        use tower::ServiceExt as _;
        let request = axum::http::Request::post("/v1/conversions").header("content-type", "application/json");
        waits.oneshot(request.body(axum::body::Body::from(sale("1").to_string())).unwrap())
    });
    assert!(first.await.is_err(), "nobody commits, so nobody is answered");
    let answer = app.post("/v1/conversions", &sale("2")).await;
    answer.assert_problem(429, "overloaded");
    assert_eq!(
        (&answer.headers["retry-after"], &answer.body["retry_after"]),
        (&"1".parse().unwrap(), &serde_json::json!(1))
    );
}
