//! `alpes serve`: starts the loops that the process's roles ask for, and the API beside them. SIGTERM drains all of it
//! within ten seconds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use log_pulsar::Subscription;
use platform::{Db, Relay};

use crate::changes::Lags;
use crate::cli::{Common, Listen};
use crate::duties::{self, Duties, Role};
use crate::inbound;
use crate::loops;
use crate::outside::{Alarms, Lookout};
use crate::sinks::Sinks;
use crate::wiring::{self, Settings};
use crate::worker::{self, Worker};

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
    /// What this process does; several processes can share the work over one server database
    #[arg(
        long,
        env = "ALPES_ROLES",
        value_name = "ROLES",
        value_enum,
        value_delimiter = ',',
        default_value = "api,console,reactors,relay,timers"
    )]
    roles: Vec<Role>,
    #[command(flatten)]
    sinks: Sinks,
    #[command(flatten)]
    alarms: Alarms,
    /// Record conversions, refunds and touches from the broker's topics `commands.…` too (with the role `reactors`)
    #[arg(long, env = "ALPES_PULSAR_COMMANDS")]
    pulsar_commands: bool,
    /// Requests per transaction at most (for measuring)
    #[arg(long, hide = true, default_value_t = web::LARGEST_BATCH)]
    batch: usize,
}

impl Arguments {
    /// The way in for commands from the broker, where this process takes them.
    fn commands(&self) -> anyhow::Result<Option<Subscription>> {
        if !self.pulsar_commands || !self.roles.contains(&Role::Reactors) {
            return Ok(None);
        }
        let options = self.sinks.broker.options();
        let options = options.context("--pulsar-commands needs a broker: give --pulsar URL or set ALPES_PULSAR")?;
        Ok(Some(inbound::subscription(options)?))
    }

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
    let location = common.location()?;
    let missing = [Role::Api, Role::Reactors, Role::Timers].iter().find(|role| !arguments.roles.contains(role));
    if let (false, Some(missing)) = (location.is_server(), missing) {
        tracing::warn!(?missing, "nobody else can do this: a SQLite file belongs to one process");
    }
    let db = Arc::new(wiring::open(&location)?);
    let settings = arguments.settings();
    let gateway = Arc::new(payments::gateways::sandbox::Sandbox::default());
    let worker = Worker::new(settings, gateway);
    let lags = Lags::default();
    let load = Load {
        intake_queue: arguments.intake_queue,
        batch: arguments.batch,
        roles: arguments.roles.clone(),
        lookout: Some(Lookout::new(location.clone(), arguments.sinks.broker(), arguments.alarms, lags.clone())),
        relays: if arguments.roles.contains(&Role::Relay) {
            arguments.sinks.open(&location, &lags)?
        } else {
            Vec::new()
        },
        commands: arguments.commands()?,
    };
    let service = Service::start(db, settings, worker, load)?;
    service.serve(arguments.listen.address(), web::Access::Keys)
}

/// What a process takes on.
pub(crate) struct Load {
    /// Facts that may wait to be recorded.
    pub(crate) intake_queue: usize,
    /// Requests per transaction at most.
    pub(crate) batch: usize,
    /// What it does.
    pub(crate) roles: Vec<Role>,
    /// Where it takes events.
    pub(crate) relays: Vec<Relay>,
    /// What it looks at outside.
    pub(crate) lookout: Option<Lookout>,
    /// Where commands come from beside the API.
    pub(crate) commands: Option<Subscription>,
}

/// How far the consumers have come, for whoever waits for them.
#[derive(Default)]
pub(crate) struct Told {
    progress: Mutex<web::Progress>,
    api: OnceLock<web::State>,
}

impl Told {
    /// Takes note of how far consumers have come; nobody goes back.
    pub(crate) fn tell(&self, positions: &[(&'static str, i64)]) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        for &(name, position) in positions {
            match progress.positions.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = position.max(*known),
                None => progress.positions.push((name, position)),
            }
        }
        if let Some(api) = self.api.get() {
            api.set_progress(progress.clone());
        }
    }

    /// Takes note of what was seen outside.
    pub(crate) fn tell_outside(&self, outside: web::Outside) {
        if let Some(api) = self.api.get() {
            api.set_outside(outside);
        }
    }

    /// The consumers' positions, as last told.
    pub(crate) fn positions(&self) -> Vec<(&'static str, i64)> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).positions.clone()
    }
}

/// A loop: it goes on until it is told to stop.
type Work = Box<dyn FnOnce(&Db, &AtomicBool) + Send>;

/// The loops of one process, and the handle by which the API reaches them.
pub(crate) struct Service {
    db: Arc<Db>,
    intake: web::Intake,
    settings: Settings,
    progress: Arc<Told>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    api: bool,
}

impl Service {
    /// Starts the loops.
    pub(crate) fn start(db: Arc<Db>, settings: Settings, worker: Worker, load: Load) -> anyhow::Result<Self> {
        let (intake, mut committer) = web::Intake::new(load.intake_queue);
        committer.max_batch = load.batch;
        let progress = Arc::new(Told::default());
        progress.tell(&worker.positions());
        let stop = Arc::new(AtomicBool::new(false));
        let holder = duties::holder(&db);
        let (reactors, timers) = (load.roles.contains(&Role::Reactors), load.roles.contains(&Role::Timers));
        let api = load.roles.contains(&Role::Api);
        let mut threads = Vec::new();
        let mut spawn = |name: &str, work: Work| -> anyhow::Result<()> {
            let (db, stop) = (db.clone(), stop.clone());
            let thread = std::thread::Builder::new().name(name.to_owned());
            threads.push(thread.spawn(move || work(&db, &stop))?);
            Ok(())
        };
        if api {
            spawn("intake", Box::new(move |db, stop| loops::commit(db, committer, stop)))?;
        }
        if reactors || timers {
            let mut wanted = Vec::new();
            wanted.extend(worker.positions().iter().filter(|_| reactors).map(|(name, _)| (*name).to_owned()));
            wanted.extend(timers.then(|| worker::TIMERS.to_owned()));
            let duties = (db.is_shared() || !reactors || !timers).then(|| Duties::new(holder.clone(), wanted));
            let told = progress.clone();
            spawn("reactions", Box::new(move |db, stop| loops::react(db, worker, duties, &told, stop)))?;
        }
        for relay in load.relays {
            let duties = Duties::new(holder.clone(), vec![relay.name().to_owned()]);
            spawn("relay", Box::new(move |db, stop| loops::relay(db, relay, duties, stop)))?;
        }
        if let Some(lookout) = load.lookout.filter(Lookout::is_needed) {
            let told = progress.clone();
            spawn("outside", Box::new(move |db, stop| loops::look_outside(db, &lookout, &told, stop)))?;
        }
        if let Some(subscription) = load.commands {
            let inlet = inbound::inlet(conversions::CustomerKeys::load_or_create(&db)?);
            spawn("commands", Box::new(move |db, stop| loops::take_in(db, subscription, &inlet, stop)))?;
        }
        if db.is_shared() {
            let told = progress.clone();
            spawn("watch", Box::new(move |db, stop| loops::watch(db, &told, stop)))?;
        } else {
            spawn("checkpoint", Box::new(loops::checkpoint))?;
        }
        Ok(Self { db, intake, settings, progress, stop, threads, api })
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
        let api = self.api;
        let outcome: anyhow::Result<()> = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen on {address}; choose another --port"))?;
            tracing::info!(%address, docs = %format!("http://{address}/docs"), "alpes is ready");
            let router = if api { web::router(state) } else { web::operations(state) };
            let served = axum::serve(listener, router).with_graceful_shutdown(signalled());
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
