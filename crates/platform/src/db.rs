//! The database: one writer with two lanes, a pool of readers beside it, and what is counted about them. On SQLite a
//! write transaction has the only write connection; WAL with `synchronous=FULL` means that a commit has been synced
//! before it is answered. On a server each process has one write connection, and a transaction that writes has the log's
//! head, so that there is one writer at a time in all processes (ADR 0011). It must not know a business word.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use kernel::{Clock, Duration, EventId, Fault, IdSource, Kind, Problem, Result, Timestamp, problems};
use rusqlite::OpenFlags;

use crate::connection::{Class, Connection, Failure, SqliteConnection, sqlite};
use crate::location::{Location, Place};
use crate::migrations::{self, Migration};
use crate::sql::Reader;
use crate::tx::{Outcome, Tx};

/// Called with the transaction's name and `before_commit` or `after_commit`: the chaos tests end the process there, the
/// simulator answers a fault there. A fault before the commit rolls back; one after it leaves what was committed. Only
/// one of kind `Unavailable` counts as a crash: a consumer takes any other for a poisonous event.
pub type Hook = Arc<dyn Fn(&str, &'static str) -> Result<()> + Send + Sync>;

/// Who gets the writer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Front,
    /// Reactions, timers, seal: soon is good enough.
    Back,
}

/// What is counted, for `/metrics` and for the gates on statements and commits per conversion.
#[derive(Debug, Default)]
pub struct Stats {
    /// Statements sent through the façade.
    pub statements: AtomicU64,
    /// Durable commits; each is one sync of the write-ahead log. Transactions that changed nothing do not count.
    pub commits: AtomicU64,
    /// Transactions that were rolled back.
    pub rollbacks: AtomicU64,
    /// Transactions that a server ended in the middle and that were tried again.
    pub retries: AtomicU64,
}

/// How to open a database.
pub struct DbOptions {
    /// Hands out "now".
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: IdSource,
    /// Called around every commit, if present.
    pub hook: Option<Hook>,
    /// The tables of all crates.
    pub migrations: Vec<&'static [Migration]>,
}

const LOCKED: Problem = Problem::new(
    Kind::Unavailable,
    "data_directory_in_use",
    "Another process works on the same data directory.",
    "Stop the other process, or choose another directory with --data.",
);
const STOPPED: Problem = Problem::new(
    Kind::Unavailable,
    "writes_stopped",
    "A write to the disk failed, so nothing more is written until a restart.",
    "Check the disk and restart; whatever was acknowledged is safe, and reads go on.",
);

const UNKNOWN: Problem = Problem::new(
    Kind::Unavailable,
    "outcome_unknown",
    "The connection to the database was lost during the commit, and whether it happened could not be found out.",
    "Repeat the request: its Idempotency-Key or the fact's own key makes sure that it has one effect.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&LOCKED, &STOPPED, &UNKNOWN];

/// How many read connections are open at most.
const READERS: usize = 8;
/// Above this size of the write-ahead log a checkpoint holds the writer up, in pages of 4 KiB: 64 MiB.
const WAL_PAGES: i64 = 16_384;
/// How long a connection waits for a lock of another process, or for a checkpoint.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a checkpoint that holds up the writer waits for long reads; then it tries again another time.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(250);

struct Queue {
    writer: Option<Connection>,
    waiting_front: usize,
    waiting_back: usize,
    /// How often in a row the front lane went first while the back lane waited.
    front_in_a_row: u32,
}

struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

/// The database. Shared between threads by reference.
pub struct Db {
    queue: Mutex<Queue>,
    turn: Condvar,
    pool: Mutex<Pool>,
    returned: Condvar,
    pub(crate) place: Option<Place>,
    clock: Arc<dyn Clock>,
    ids: Mutex<IdSource>,
    hook: Option<Hook>,
    known_at: AtomicI64,
    head: AtomicI64,
    head_lock: Mutex<()>,
    head_moved: Condvar,
    stopped: AtomicBool,
    stats: Stats,
    _lock: Option<File>,
}

/// How often a transaction is tried when a server ends it in the middle.
const ATTEMPTS: u32 = 4;

impl Db {
    /// Opens the database and brings its tables up to date. The SQLite file is created when it is missing, and its
    /// directory locked until the value is dropped; a server is shared. Faults: `data_directory_in_use`,
    /// `database_refused`, `unavailable`, `internal`.
    pub fn open(location: &Location, options: DbOptions) -> Result<Self> {
        let Place::Directory(directory) = &location.0 else {
            return Self::start(location.0.connect(true)?, Some(location.0.clone()), None, options);
        };
        let unavailable = |error: std::io::Error| {
            let detail = format!("cannot use the data directory {}: {error}", directory.display());
            Fault::new(&problems::UNAVAILABLE, detail)
        };
        std::fs::create_dir_all(directory).map_err(unavailable)?;
        let lock = File::create(directory.join("alpes.lock")).map_err(unavailable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
            Err(TryLockError::WouldBlock) => {
                let detail =
                    format!("another alpes process works on {}; stop it or choose another --data", directory.display());
                return Err(Fault::new(&LOCKED, detail));
            }
        }
        let writer = rusqlite::Connection::open(file(directory)).map_err(|error| sqlite::fault(&error))?;
        Self::start(configured(writer, true)?, Some(location.0.clone()), Some(lock), options)
    }

    /// Opens an existing database beside the process that has the data directory: for reading, and for small writes that
    /// publish no event (API keys). Tables are neither created nor changed. Faults: `unavailable`, `internal`.
    pub fn open_beside(location: &Location, options: DbOptions) -> Result<Self> {
        let options = DbOptions { migrations: Vec::new(), ..options };
        let writer = match &location.0 {
            Place::Directory(directory) => open_file(directory, true)?,
            server => server.connect(true)?,
        };
        Self::start(writer, Some(location.0.clone()), None, options)
    }

    /// A database in memory, for tests and the simulator; readers share the writer's connection.
    pub fn in_memory(options: DbOptions) -> Result<Self> {
        let writer = rusqlite::Connection::open_in_memory().map_err(|error| sqlite::fault(&error))?;
        Self::start(configured(writer, true)?, None, None, options)
    }

    fn start(writer: Connection, place: Option<Place>, lock: Option<File>, options: DbOptions) -> Result<Self> {
        let stats = Stats::default();
        let now = options.clock.now();
        if !options.migrations.is_empty() {
            migrations::run(&writer, &stats, &options.migrations, now)?;
        }
        let (head, known_at) = head(&Reader { connection: &writer, stats: &stats })?;
        Ok(Self {
            queue: Mutex::new(Queue { writer: Some(writer), waiting_front: 0, waiting_back: 0, front_in_a_row: 0 }),
            turn: Condvar::new(),
            pool: Mutex::new(Pool { idle: Vec::new(), open: 0 }),
            returned: Condvar::new(),
            place,
            clock: options.clock,
            ids: Mutex::new(options.ids),
            hook: options.hook,
            known_at: AtomicI64::new(known_at),
            head: AtomicI64::new(head),
            head_lock: Mutex::new(()),
            head_moved: Condvar::new(),
            stopped: AtomicBool::new(false),
            stats,
            _lock: lock,
        })
    }

    /// The current instant of the injected clock, never before that of the last commit.
    pub fn now(&self) -> Timestamp {
        self.clock.now().max(Timestamp::from_micros(self.known_at.load(Ordering::SeqCst)))
    }

    /// Fresh random bytes from the injected source.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        guard(&self.ids).bytes()
    }

    /// A fresh id, made outside a transaction.
    pub fn new_id<K>(&self) -> kernel::Id<K> {
        guard(&self.ids).next(self.now())
    }

    /// What is counted.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The last committed position of the log, as far as this process knows: its own commits at once, those of others
    /// after [`Db::look_at_head`].
    pub fn head(&self) -> i64 {
        self.head.load(Ordering::SeqCst)
    }

    /// Whether other processes may write to the same log.
    pub fn is_shared(&self) -> bool {
        matches!(self.place, Some(Place::Postgres(_) | Place::Mysql(_)))
    }

    /// Asks the database how far its log has come, because other processes write to it too, and wakes whoever waits for
    /// that.
    pub fn look_at_head(&self) -> Result<i64> {
        if self.place.is_some() {
            let (position, known_at) = self.read(head)?;
            self.known_at.fetch_max(known_at, Ordering::SeqCst);
            self.saw(position);
        }
        Ok(self.head())
    }

    fn saw(&self, position: i64) {
        if self.head.fetch_max(position, Ordering::SeqCst) < position {
            // Whoever has just found the old head holds the lock until it sleeps: it cannot miss the wake-up.
            drop(guard(&self.head_lock));
            self.head_moved.notify_all();
        }
    }

    /// Whether somebody in the front lane waits for the writer right now.
    pub fn is_front_waiting(&self) -> bool {
        guard(&self.queue).waiting_front > 0
    }

    /// Whether a failed sync has stopped all writes.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits until the log's head is past `position` or the time is up; answers the head.
    pub fn wait_past(&self, position: i64, at_most: Duration) -> i64 {
        let lock = guard(&self.head_lock);
        let waited = self.head_moved.wait_timeout_while(lock, at_most, |()| self.head() <= position);
        drop(waited);
        self.head()
    }

    /// Runs `work` in one write transaction, on this thread, and answers only after the commit is durable. `name` tells
    /// transactions apart in logs and crash points. When a server ends the transaction in the middle, `work` is run
    /// again as a whole. Faults: those of `work` (rolled back), `unavailable`, `storage_full`, `writes_stopped`,
    /// `outcome_unknown`.
    pub fn write<T>(
        &self,
        name: &str,
        lane: Lane,
        actor: &str,
        work: impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        self.turn(lane).write(name, actor, work)
    }

    /// Waits for the writer and keeps it: for who decides what to write only when it is his turn.
    pub fn turn(&self, lane: Lane) -> Turn<'_> {
        Turn { db: self, connection: Some(self.acquire(lane)) }
    }

    fn committed(&self, now: Timestamp, outcome: &Outcome) {
        self.stats.commits.fetch_add(u64::from(outcome.changed), Ordering::Relaxed);
        self.known_at.fetch_max(now.as_micros(), Ordering::SeqCst);
        if let Some((head, _)) = outcome.published {
            self.saw(head);
        }
    }

    /// Runs `work` on a consistent snapshot beside the writer.
    pub fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let Some(place) = &self.place else {
            let writer = self.turn(Lane::Front);
            return work(&Reader { connection: writer.connection()?, stats: &self.stats });
        };
        let loan = self.borrow(place)?;
        let connection = loan.connection()?;
        connection.begin_read()?;
        // Ended on drop, also when `work` panics: the next borrower must find no snapshot of somebody else.
        let _open = Open { connection, stats: None, done: false };
        work(&Reader { connection, stats: &self.stats })
    }

    /// Moves what has been committed from the write-ahead log into the database file, without holding up readers or the
    /// writer. Above 64 MiB it takes the writer's turn and waits a moment for readers, so that the log starts again from
    /// its beginning and cannot grow without bound. Faults: `unavailable`, `storage_full`, `writes_stopped`.
    pub fn checkpoint(&self) -> Result<()> {
        let Some(place @ Place::Directory(_)) = &self.place else { return Ok(()) };
        self.refuse_if_stopped()?;
        let loan = self.borrow(place)?;
        let Connection::Sqlite(SqliteConnection(connection)) = loan.connection()? else { return Ok(()) };
        // A connection that only queries may still checkpoint. The answer is (busy, pages in the log, pages moved).
        let run = |sql: &str| {
            let pages = connection.query_row(sql, [], |row| row.get::<_, i64>(1));
            pages.map_err(|error| self.note(sqlite::failure(&error)))
        };
        let mut pages = run("PRAGMA wal_checkpoint(PASSIVE)")?;
        if pages > WAL_PAGES {
            let _turn = self.turn(Lane::Front);
            let driver = |error: rusqlite::Error| sqlite::fault(&error);
            connection.busy_timeout(CHECKPOINT_PATIENCE).map_err(driver)?;
            let restarted = run("PRAGMA wal_checkpoint(RESTART)");
            connection.busy_timeout(PATIENCE).map_err(driver)?;
            pages = restarted?;
        }
        tracing::trace!(pages, "checkpoint");
        Ok(())
    }

    /// The size of the database file, in bytes; 0 in memory and on a server. After a checkpoint everything is in it.
    pub fn file_bytes(&self) -> u64 {
        self.path().map_or(0, |path| size(&path))
    }

    /// The size of the database file and its write-ahead log, in bytes; 0 in memory and on a server.
    pub fn size_bytes(&self) -> u64 {
        self.path().map_or(0, |path| size(&path) + size(&path.with_extension("db-wal")))
    }

    fn path(&self) -> Option<PathBuf> {
        match &self.place {
            Some(Place::Directory(directory)) => Some(file(directory)),
            _ => None,
        }
    }

    fn at(&self, name: &str, moment: &'static str) -> Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(name, moment))
    }

    /// A failure as a fault; one whose outcome is unknown stops all writes.
    fn note(&self, failure: Failure) -> Fault {
        if failure.class == Class::Fatal {
            self.stop();
        }
        failure.fault
    }

    fn stop(&self) {
        if !self.stopped.swap(true, Ordering::SeqCst) {
            tracing::error!("a write to the disk failed: nothing more is written until a restart");
        }
    }

    fn refuse_if_stopped(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(Fault::new(&STOPPED, "a write to the disk failed earlier; restart to go on"));
        }
        Ok(())
    }

    fn acquire(&self, lane: Lane) -> Connection {
        let mut queue = guard(&self.queue);
        match lane {
            Lane::Front => queue.waiting_front += 1,
            Lane::Back => queue.waiting_back += 1,
        }
        loop {
            // The front lane goes first, but not for ever: the back lane gets every fifth turn.
            let mine = match lane {
                Lane::Front => queue.waiting_back == 0 || queue.front_in_a_row < 4,
                Lane::Back => queue.waiting_front == 0 || queue.front_in_a_row >= 4,
            };
            if mine && let Some(writer) = queue.writer.take() {
                match lane {
                    Lane::Front => {
                        queue.waiting_front -= 1;
                        queue.front_in_a_row = if queue.waiting_back > 0 { queue.front_in_a_row + 1 } else { 0 };
                    }
                    Lane::Back => {
                        queue.waiting_back -= 1;
                        queue.front_in_a_row = 0;
                    }
                }
                return writer;
            }
            queue = self.turn.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn borrow(&self, place: &Place) -> Result<Loan<'_>> {
        let loan = |connection| Loan { db: self, connection: Some(connection) };
        let mut pool = guard(&self.pool);
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(loan(connection));
            }
            if pool.open < READERS {
                pool.open += 1;
                break;
            }
            let (woken, waited) =
                self.returned.wait_timeout(pool, PATIENCE).unwrap_or_else(std::sync::PoisonError::into_inner);
            if waited.timed_out() {
                let detail = format!("all {READERS} connections for reading have been busy for {PATIENCE:?}");
                return Err(Fault::new(&problems::UNAVAILABLE, detail));
            }
            pool = woken;
        }
        drop(pool);
        let opened = match place {
            Place::Directory(directory) => open_file(directory, false),
            server => server.connect(false),
        };
        opened.map(loan).inspect_err(|_| {
            guard(&self.pool).open -= 1;
            // Somebody may wait for a connection while none is open any more: it is their turn to try.
            self.returned.notify_one();
        })
    }
}

/// The head of the log and when it became known, as last committed.
fn head(reader: &Reader<'_>) -> Result<(i64, i64)> {
    let sql = "SELECT position, known_at FROM log_head WHERE id = 1";
    Ok(reader.query_one(sql, &[], |row| Ok((row.int(0)?, row.int(1)?)))?.unwrap_or((0, 0)))
}

fn file(directory: &Path) -> PathBuf {
    directory.join("alpes.db")
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// One more connection to an existing file.
fn open_file(directory: &Path, writes: bool) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = rusqlite::Connection::open_with_flags(file(directory), flags);
    configured(opened.map_err(|error| sqlite::fault(&error))?, writes)
}

fn configured(connection: rusqlite::Connection, writes: bool) -> Result<Connection> {
    configure(&connection, writes).map_err(|error| sqlite::fault(&error))?;
    Ok(Connection::Sqlite(SqliteConnection(connection)))
}

fn configure(connection: &rusqlite::Connection, writes: bool) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(256);
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 67_108_864)?;
    if writes {
        // 64 MiB at most, taken as pages are read. Less, and scattered indexes are read again and again; more, and each
        // commit after a split in the middle of a tree walks over more pages (ADR 0009).
        connection.pragma_update(None, "cache_size", -65_536)?;
    } else {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(())
}

/// A lock whose holder cannot have left the data in a bad state: a panic of theirs is no reason to stop.
pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The writer's connection, given back on drop.
pub struct Turn<'d> {
    db: &'d Db,
    connection: Option<Connection>,
}

/// Why an attempt at a transaction came to nothing.
enum Undone {
    /// For good.
    Refused(Fault),
    /// The server ended it in the middle.
    Interrupted(Fault),
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl Turn<'_> {
    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or_else(|| Fault::internal("the writer is away"))
    }

    /// Runs `work` in one transaction, like [`Db::write`].
    pub fn write<T>(&self, name: &str, actor: &str, mut work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match self.attempt(name, actor, &mut work) {
                Ok(answer) => return Ok(answer),
                Err(Undone::Interrupted(fault)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    self.db.stats.retries.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%fault, name, attempt, "the database ended a transaction: it is tried again");
                }
                Err(Undone::Refused(fault) | Undone::Interrupted(fault)) => return Err(fault),
            }
        }
    }

    fn attempt<T>(
        &self,
        name: &str,
        actor: &str,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T, Undone> {
        let db = self.db;
        // Asked with the writer in hand: a sync may have failed while this thread waited for its turn.
        db.refuse_if_stopped()?;
        let connection = self.connection()?;
        let head = connection.begin().map_err(undone)?;
        let mut open = Open { connection, stats: Some(&db.stats), done: false };
        let now = db.now().max(head.map_or(Timestamp::from_micros(0), |head| head.known_at));
        db.saw(head.map_or(0, |head| head.position));
        let reader = Reader { connection, stats: &db.stats };
        let mut tx = Tx::new(reader, now, actor, &db.ids, head);
        let answer = work(&mut tx);
        let outcome = tx.outcome;
        if outcome.sync_failed {
            db.stop();
        }
        let answer = answer.map_err(|fault| {
            if connection.was_interrupted() { Undone::Interrupted(fault) } else { Undone::Refused(fault) }
        })?;
        if outcome.failed || connection.is_server() && connection.has_ended() {
            let detail = format!("{name}: a failed statement was passed over, so nothing is committed");
            return Err(Fault::internal(detail).into());
        }
        db.at(name, "before_commit")?;
        let committed = connection.commit().map_err(|failure| {
            let lost = connection.was_interrupted();
            (db.note(failure), lost)
        });
        open.done = committed.is_ok() || matches!(committed, Err((_, true)));
        drop(open);
        if let Err((fault, lost)) = committed {
            if !lost {
                return Err(fault.into());
            }
            self.settle(outcome.published, fault)?;
        }
        db.committed(now, &outcome);
        db.at(name, "after_commit")?;
        Ok(answer)
    }

    /// Finds out what became of a commit during which the connection was lost. Whoever has the log's head knows that no
    /// other transaction is under way: then the last event is there, or it never will be.
    fn settle(&self, published: Option<(i64, EventId)>, fault: Fault) -> Result<(), Undone> {
        let unknown = |fault: Fault| {
            Fault::new(&UNKNOWN, "whether the database has committed is not known").caused_by(format!("{fault:?}"))
        };
        let Some((position, id)) = published else { return Err(unknown(fault).into()) };
        let connection = self.connection()?;
        connection.begin().map_err(|failure| unknown(failure.fault))?;
        let _open = Open { connection, stats: None, done: false };
        let reader = Reader { connection, stats: &self.db.stats };
        let sql = "SELECT id FROM outbox_event WHERE position = ?";
        let found: Option<EventId> = reader.query_one(sql, &[position.into()], |row| row.id(0)).map_err(unknown)?;
        if found == Some(id) { Ok(()) } else { Err(Undone::Interrupted(fault)) }
    }
}

fn undone(failure: Failure) -> Undone {
    match failure.class {
        Class::Interrupted => Undone::Interrupted(failure.fault),
        Class::Ordinary | Class::Fatal => Undone::Refused(failure.fault),
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        guard(&self.db.queue).writer = self.connection.take();
        self.db.turn.notify_all();
    }
}

/// A reader's connection, given back on drop.
struct Loan<'d> {
    db: &'d Db,
    connection: Option<Connection>,
}

impl Loan<'_> {
    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or_else(|| Fault::internal("the reader is away"))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        guard(&self.db.pool).idle.extend(self.connection.take());
        self.db.returned.notify_one();
    }
}

/// An open transaction, rolled back on drop unless it was committed. A read transaction only ends, and is not counted.
struct Open<'d> {
    connection: &'d Connection,
    stats: Option<&'d Stats>,
    done: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(stats) = self.stats {
            stats.rollbacks.fetch_add(1, Ordering::Relaxed);
        }
        self.connection.rollback();
    }
}

#[cfg(test)]
pub(crate) mod server_tests;
#[cfg(test)]
mod tests;
