//! An application for tests: router, committer and consumers over an in-memory database with a clock that stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use kernel::{IdSource, ManualClock};
use platform::{Consumer, Db, DbOptions, Hook, Lane, Runner, Step};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// 2026-01-31T12:00:00Z, when every test begins.
pub(crate) const NOW: i64 = 1_769_860_800_000_000;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The code of a problem.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The first pointer of a problem.
    pub(crate) fn pointer(&self) -> &str {
        self.body["errors"][0]["pointer"].as_str().unwrap_or_default()
    }

    /// The id in the body.
    pub(crate) fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    /// Asserts that it is a well-formed problem with this status and code.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("/docs/problems#{code}"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{self:?}");
        assert_eq!(self.body["request_id"].as_str(), self.headers["x-request-id"].to_str().ok());
        assert!(web::problems().iter().any(|problem| problem.code == code), "{code} is not in the catalogue");
    }
}

/// How an application is made.
pub(crate) struct Options {
    pub(crate) access: web::Access,
    pub(crate) capacity_facts: usize,
    pub(crate) hook: Option<Hook>,
    /// Whether a thread commits; without it facts wait.
    pub(crate) commits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { access: web::Access::Open { actor: "tester".into() }, capacity_facts: 10_000, hook: None, commits: true }
    }
}

/// The application.
pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) state: web::State,
    pub(crate) db: Arc<Db>,
    pub(crate) clock: Arc<ManualClock>,
    stop: Arc<AtomicBool>,
    committer: Option<JoinHandle<()>>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.committer.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn consumers() -> Vec<Consumer> {
    vec![
        partners::consumer(),
        campaigns::consumer(),
        conversions::consumer(conversions::Settings::default()),
        commissions::consumer(),
        reports::consumer(),
    ]
}

/// One step of every consumer after the other until nothing is left; then the progress is told.
pub(crate) fn react(db: &Db, state: &web::State) {
    let mut runners: Vec<Runner> = consumers().into_iter().map(Runner::new).collect();
    while runners.iter_mut().map(|runner| runner.step(db).unwrap()).filter(|step| *step != Step::Idle).count() > 0 {}
    let positions = runners.iter().map(|runner| (runner.name(), db.head())).collect();
    state.set_progress(web::Progress { positions });
}

impl App {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    #[expect(clippy::disallowed_methods, reason = "the test stands for the server, which runs the committer's loop")]
    pub(crate) fn with(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(kernel::Timestamp::from_micros(NOW)));
        let migrations = vec![
            platform::MIGRATIONS,
            ledger::MIGRATIONS,
            partners::MIGRATIONS,
            campaigns::MIGRATIONS,
            conversions::MIGRATIONS,
            commissions::MIGRATIONS,
            payments::MIGRATIONS,
            reports::MIGRATIONS,
            web::MIGRATIONS,
        ];
        let ids = IdSource::from_number(1);
        let db = Db::in_memory(DbOptions { clock: clock.clone(), ids, hook: options.hook, migrations });
        let db = Arc::new(db.unwrap());
        let (intake, mut committer) = web::Intake::new(options.capacity_facts);
        let state = web::State::new(web::Services {
            db: db.clone(),
            access: options.access,
            intake,
            customers: conversions::CustomerKeys::load_or_create(&db).unwrap(),
            payments: payments::Settings { approval_limit_minor: 1_000_000, gateway: "sandbox" },
            replay: Arc::new(|_| panic!("the replay breaks")),
        });
        let state = state.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = options.commits.then(|| {
            let (db, stop) = (db.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    committer.step(&db, Duration::from_millis(20));
                }
            })
        });
        Self { router: web::router(state.clone()), state, db, clock, stop, committer: thread }
    }

    /// Lets every consumer handle what there is.
    pub(crate) fn react(&self) {
        react(&self.db, &self.state);
    }

    /// A key with these scopes.
    pub(crate) fn key(&self, name: &str, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let new = web::keys::NewKey::parse(name, &scopes, Some(30)).unwrap();
        let secret = self.db.random();
        let created = self.db.write("keys", Lane::Front, "cli", |tx| web::keys::create(tx, &new, secret)).unwrap();
        self.state.refresh_keys().unwrap();
        created.key
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.post_text(path, headers, body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.request("POST", path, &headers, body).await
    }

    /// An active partner that is enrolled with the code `P1` in an active campaign in USD that pays 8 %.
    pub(crate) async fn scene(&self) -> Scene {
        let partner = self.post("/v1/partners", &json!({"kind": "affiliate", "name": "One"})).await.id();
        let campaign = self.post("/v1/campaigns", &campaign()).await.id();
        for path in [
            format!("/v1/partners/{partner}/activate"),
            format!("/v1/campaigns/{campaign}/enrollments"),
            format!("/v1/campaigns/{campaign}/activate"),
        ] {
            let enrols = path.ends_with("enrollments");
            let body = if enrols { json!({"partner_id": partner, "code": "P1"}) } else { json!({}) };
            let answer = self.post(&path, &body).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
        Scene { partner, campaign }
    }
}

/// What most tests need.
pub(crate) struct Scene {
    pub(crate) partner: String,
    pub(crate) campaign: String,
}

impl Scene {
    /// A sale of 10.05 USD by the partner's code.
    pub(crate) fn sale(&self, external_id: &str) -> Value {
        json!({
            "source": "shop", "external_id": external_id, "campaign_id": self.campaign, "code": "P1",
            "occurred_at": "2026-01-31T11:00:00Z", "amount": {"amount_minor": 10_05, "currency": "USD"},
        })
    }
}

pub(crate) fn campaign() -> Value {
    json!({
        "name": "Spring", "currency": "USD", "starts_at": "2026-01-01T00:00:00Z",
        "terms": {"components": [{"type": "percent", "basis_points": 800}], "auto_approve_up_to_minor": 1_000},
    })
}
