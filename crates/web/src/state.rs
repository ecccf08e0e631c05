//! What every handler shares, and how far the consumers have come.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use kernel::{DeadLetterId, Fault, Result};
use platform::{Db, Lane, OnDuplicate, Reader};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::auth::{self, Access, Actor};
use crate::intake::Intake;
use crate::keys::KeyCache;
use crate::metrics::{Metrics, moment};
use crate::outside::Outside;
use crate::problem::KEY_IN_FLIGHT;

/// Tries a dead letter, and those behind it, again; answers how many. The runners that can do it live in the server.
pub type Replay = Arc<dyn Fn(DeadLetterId) -> Result<usize> + Send + Sync>;

/// What the server brings.
pub struct Services {
    /// The database.
    pub db: Arc<Db>,
    /// Who may come in.
    pub access: Access,
    /// The way of facts to the committer.
    pub intake: Intake,
    /// Turns customers into keyed digests.
    pub customers: conversions::CustomerKeys,
    /// Limits of payouts.
    pub payments: payments::Settings,
    /// Replays dead letters.
    pub replay: Replay,
}

/// How far each consumer has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Names and positions.
    pub positions: Vec<(&'static str, i64)>,
}

impl Progress {
    fn has_reached(&self, consumer: &str, position: i64) -> bool {
        self.positions.iter().any(|&(name, reached)| name == consumer && reached >= position)
    }
}

/// What every handler shares; cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

/// What a [`State`] points at.
pub struct Shared {
    pub(crate) db: Arc<Db>,
    pub(crate) intake: Intake,
    pub(crate) customers: conversions::CustomerKeys,
    pub(crate) payments: payments::Settings,
    pub(crate) replay: Replay,
    pub(crate) metrics: Metrics,
    pub(crate) cursor_secret: [u8; 32],
    access: Access,
    keys: KeyCache,
    started: Instant,
    /// When the keys were read last, in milliseconds since `started`.
    keys_read_at: AtomicU64,
    progress: watch::Sender<Progress>,
    outside: Mutex<Outside>,
    requests: AtomicU64,
    /// Actors and the Idempotency-Keys of theirs that are being worked on.
    in_flight: Mutex<BTreeSet<(Arc<str>, String)>>,
    /// Tells the requests of this process from those of the one before.
    run: String,
}

/// An Idempotency-Key that is being worked on.
pub(crate) struct Claim {
    state: State,
    named: (Arc<str>, String),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.state.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.named);
    }
}

impl Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A key that was made or revoked by another process is noticed after this time.
const KEYS_AGE: Duration = Duration::from_secs(5);

impl State {
    /// The shared state; reads the keys and the installation's secret, which it makes at the first start.
    pub fn new(services: Services) -> Result<Self> {
        let cursor_secret = secret(&services.db)?;
        let keys = KeyCache::default();
        services.db.read(|reader| keys.load(reader))?;
        let run = kernel::hex(&services.db.random::<4>());
        Ok(Self(Arc::new(Shared {
            db: services.db,
            intake: services.intake,
            customers: services.customers,
            payments: services.payments,
            replay: services.replay,
            metrics: Metrics::new(),
            cursor_secret,
            access: services.access,
            keys,
            started: moment(),
            keys_read_at: AtomicU64::new(0),
            progress: watch::Sender::new(Progress::default()),
            outside: Mutex::default(),
            requests: AtomicU64::new(0),
            in_flight: Mutex::default(),
            run,
        })))
    }

    /// Claims an actor's Idempotency-Key until the claim is dropped. Whatever comes of the race, the stored reply alone
    /// decides that there is one effect; the claim only tells a client at once that its first request is under way.
    /// Fault: `idempotency_key_in_flight`.
    pub(crate) fn claim(&self, actor: &Actor, key: &str) -> Result<Claim> {
        let named = (Arc::clone(&actor.name), key.to_owned());
        if !self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(named.clone()) {
            return Err(Fault::new(&KEY_IN_FLIGHT, "the first request with this Idempotency-Key has no answer yet"));
        }
        Ok(Claim { state: self.clone(), named })
    }

    /// Tells how far the consumers have come; wakes the requests that wait for them.
    pub fn set_progress(&self, progress: Progress) {
        self.progress.send_if_modified(|known| {
            let is_new = *known != progress;
            *known = progress;
            is_new
        });
    }

    /// Tells what was seen outside.
    pub fn set_outside(&self, outside: Outside) {
        *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = outside;
    }

    /// What was seen outside last.
    pub(crate) fn outside(&self) -> Outside {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys again, after this process has made or revoked one.
    pub fn refresh_keys(&self) -> Result<()> {
        self.db.read(|reader| self.keys.load(reader))
    }

    /// How far the consumers have come, as last told.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until `consumer` has handled the event at `position`; answers false when the time is up before.
    pub(crate) async fn wait_for(&self, consumer: &str, position: i64, until: tokio::time::Instant) -> bool {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.has_reached(consumer, position));
        tokio::time::timeout_at(until, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// A name for a request, unique in this installation for all practical purposes.
    pub(crate) fn request_id(&self) -> String {
        format!("req_{}{:08x}", self.run, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Who asks. Faults: `unauthenticated`, `foreign_page`, those of the database.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Actor> {
        let age = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let read_at = self.keys_read_at.load(Ordering::Relaxed);
        // One request reads the keys again; the others go on with what is known meanwhile.
        if u128::from(age - read_at.min(age)) >= KEYS_AGE.as_millis()
            && self.keys_read_at.compare_exchange(read_at, age, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.blocking(Self::refresh_keys).await?;
        }
        auth::authenticate(&self.access, &self.keys, self.db.now(), headers)
    }

    /// Runs database work on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.clone();
        let done = spawn_blocking(move || work(&state)).await;
        done.map_err(|error| Fault::internal(format!("a handler's thread: {error}")))?
    }
}

fn secret(db: &Db) -> Result<[u8; 32]> {
    let stored = |reader: &Reader<'_>| {
        reader.query_one("SELECT secret FROM web_secret WHERE id = 1", &[], |row| Ok(row.bytes(0)?.to_vec()))
    };
    let found = match db.read(stored)? {
        Some(secret) => secret,
        None => {
            let fresh: [u8; 32] = db.random();
            db.write("web_secret", Lane::Front, "system", |tx| {
                tx.insert("web_secret", ["id", "secret"], &[[1.into(), (&fresh).into()]], OnDuplicate::Ignore)?;
                stored(tx)?.ok_or_else(|| Fault::internal("the secret was not stored"))
            })?
        }
    };
    found.try_into().map_err(|_| Fault::internal("the secret is not 32 bytes"))
}
