//! `alpes serve`: the loops. One thread commits what intake hands over, one reacts, one moves the write-ahead log into
//! the database file; the API runs beside them. SIGTERM drains all of it within ten seconds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use platform::Db;

use crate::cli::{Common, Listen};
use crate::wiring::{self, Settings};
use crate::worker::Worker;

/// What `serve` takes.
#[derive(Args, Clone)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// What happens with a fact that names an unknown partner or campaign: `park` it, or `provision` one
    #[arg(long, default_value = "park", env = "ALPES_UNKNOWN_REFERENCE", value_name = "POLICY")]
    unknown_reference: conversions::UnknownReference,
    /// Payouts above this many minor units need an approver other than their creator
    #[arg(long, default_value_t = Settings::default().payments.approval_limit_minor, env = "ALPES_PAYOUT_APPROVAL_LIMIT_MINOR", value_name = "N")]
    payout_approval_limit_minor: i64,
    /// Facts that may wait to be recorded; above it clients get 429
    #[arg(long, default_value_t = 8_192, env = "ALPES_INTAKE_QUEUE", value_name = "FACTS")]
    intake_queue: usize,
    /// Record only, react to nothing (for measuring)
    #[arg(long, hide = true)]
    no_reactions: bool,
    /// Requests per transaction at most (for measuring)
    #[arg(long, hide = true, default_value_t = web::LARGEST_BATCH)]
    batch: usize,
}

impl Arguments {
    /// What a person may set about the domain.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.conversions.unknown_reference = self.unknown_reference;
        settings.payments.approval_limit_minor = self.payout_approval_limit_minor;
        settings
    }
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let db = Arc::new(wiring::open(&common.location()?)?);
    let settings = arguments.settings();
    let gateway = Arc::new(payments::gateways::sandbox::Sandbox::default());
    let worker = Worker::new(settings, gateway);
    let service = Service::start(db, settings, worker, arguments)?;
    service.serve(arguments.listen.address(), web::Access::Keys)
}

/// How far the consumers have come, for whoever waits for them.
#[derive(Default)]
pub(crate) struct Told {
    progress: Mutex<web::Progress>,
    api: OnceLock<web::State>,
}

impl Told {
    fn tell(&self, progress: web::Progress) {
        if let Some(api) = self.api.get() {
            api.set_progress(progress.clone());
        }
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// The consumers' positions, as last told.
    pub(crate) fn positions(&self) -> Vec<(&'static str, i64)> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).positions.clone()
    }
}

/// The loops of one process, and the handle by which the API reaches them.
pub(crate) struct Service {
    db: Arc<Db>,
    intake: web::Intake,
    settings: Settings,
    progress: Arc<Told>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts the loops.
    pub(crate) fn start(
        db: Arc<Db>,
        settings: Settings,
        worker: Worker,
        arguments: &Arguments,
    ) -> anyhow::Result<Self> {
        Self::start_with(db, settings, worker, arguments.intake_queue, arguments.batch, !arguments.no_reactions)
    }

    pub(crate) fn start_with(
        db: Arc<Db>,
        settings: Settings,
        worker: Worker,
        queue: usize,
        batch: usize,
        reactions: bool,
    ) -> anyhow::Result<Self> {
        let (intake, mut committer) = web::Intake::new(queue);
        committer.max_batch = batch;
        let progress = Arc::new(Told::default());
        progress.tell(web::Progress { positions: worker.positions() });
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        threads.push(spawn("intake", {
            let (db, stop) = (db.clone(), stop.clone());
            move || commit_loop(&db, committer, &stop)
        })?);
        if reactions {
            threads.push(spawn("reactions", {
                let (db, stop, told) = (db.clone(), stop.clone(), progress.clone());
                move || react_loop(&db, worker, &told, &stop)
            })?);
        }
        threads.push(spawn("checkpoint", {
            let (db, stop) = (db.clone(), stop.clone());
            move || checkpoint_loop(&db, &stop)
        })?);
        Ok(Self { db, intake, settings, progress, stop, threads })
    }

    /// The way in for facts.
    pub(crate) const fn intake(&self) -> &web::Intake {
        &self.intake
    }

    /// How far the consumers have come.
    pub(crate) fn positions(&self) -> Vec<(&'static str, i64)> {
        self.progress.positions()
    }

    /// Serves the API until a signal, then stops the loops.
    pub(crate) fn serve(self, address: SocketAddr, access: web::Access) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(32)
            .enable_all()
            .build()?;
        let replay = {
            let (db, settings) = (self.db.clone(), self.settings);
            Arc::new(move |id| {
                Worker::new(settings, Arc::new(payments::gateways::sandbox::Sandbox::default())).replay(&db, id)
            })
        };
        let state = web::State::new(web::Services {
            customers: conversions::CustomerKeys::load_or_create(&self.db)?,
            db: self.db.clone(),
            access,
            intake: self.intake.clone(),
            payments: self.settings.payments,
            replay,
        })?;
        state.set_progress(web::Progress { positions: self.progress.positions() });
        let _ = self.progress.api.set(state.clone());
        let outcome: anyhow::Result<()> = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen on {address}; choose another --port"))?;
            tracing::info!(%address, docs = %format!("http://{address}/docs"), "alpes is ready");
            let served = axum::serve(listener, web::router(state)).with_graceful_shutdown(signalled());
            // A connection that stays open must not hold the process: the drain ends after ten seconds.
            tokio::select! {
                served = served => served.context("the API stopped"),
                () = drained() => Ok(()),
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        self.stop();
        outcome
    }

    /// Stops the loops after what is under way.
    pub(crate) fn stop(self) {
        let Self { db, intake, stop, threads, .. } = self;
        drop(intake);
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            let _ = thread.join();
        }
        if let Err(fault) = db.checkpoint() {
            tracing::warn!(%fault, "the last checkpoint failed; the next start does it");
        }
        tracing::info!("alpes has stopped");
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

fn commit_loop(db: &Db, mut committer: web::Committer, stop: &AtomicBool) {
    loop {
        let committed = committer.step(db, Duration::from_millis(100));
        if committed == 0 && stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// The timers are looked at this often.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// How long reactions rest after a round while intake waits for the writer.
const YIELD_TO_INTAKE: Duration = Duration::from_millis(10);
/// A reaction's transaction aims at this, so that intake never waits long for the writer.
const SLICE_AIM: Duration = Duration::from_millis(5);

#[expect(clippy::disallowed_methods, reason = "the loop measures how long a slice takes")]
fn react_loop(db: &Db, mut worker: Worker, told: &Told, stop: &AtomicBool) {
    let mut tended = std::time::Instant::now().checked_sub(TEND_EVERY);
    let mut pause = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let head = db.head();
        let outcome = worker.react_within(db, SLICE_AIM).and_then(|moved| {
            told.tell(web::Progress { positions: worker.positions() });
            let due = tended.is_none_or(|tended| tended.elapsed() >= TEND_EVERY);
            let tended_something = due && worker.tend(db)?;
            if due && !tended_something {
                tended = Some(std::time::Instant::now());
            }
            Ok(moved || tended_something)
        });
        match outcome {
            Ok(true) => {
                pause = Duration::ZERO;
                // Intake first: while it keeps the writer busy, reactions leave it the processors too.
                if db.is_front_waiting() {
                    std::thread::sleep(YIELD_TO_INTAKE);
                }
            }
            Ok(false) => {
                pause = Duration::ZERO;
                db.wait_past(head, TEND_EVERY);
            }
            Err(fault) => {
                pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(5));
                tracing::warn!(%fault, ?pause, "reactions wait and try again");
                std::thread::sleep(pause);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the loop waits between checkpoints")]
fn checkpoint_loop(db: &Db, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        if let Err(fault) = db.checkpoint() {
            tracing::warn!(%fault, "a checkpoint failed and is tried again");
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

async fn signalled() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping: finishing what is under way");
}

#[expect(clippy::disallowed_methods, reason = "the drain has a limit in real time")]
async fn drained() {
    signalled().await;
    tokio::time::sleep(Duration::from_secs(9)).await;
}
