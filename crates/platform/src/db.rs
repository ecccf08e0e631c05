//! The database: one writer with two lanes, a pool of readers beside it, and what is counted about them. On SQLite a
//! write transaction has the only write connection; WAL with `synchronous=FULL` means that a commit has been synced
//! before it is answered. It must not know a business word.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use kernel::{Clock, Duration, Fault, IdSource, Kind, Problem, Result, Timestamp, problems};
use rusqlite::{Connection, OpenFlags};

use crate::dialect;
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

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&LOCKED, &STOPPED];

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
    path: Option<PathBuf>,
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

impl Db {
    /// Opens (and creates) the database `directory/alpes.db` and brings its tables up to date. The directory is locked
    /// until the value is dropped. Faults: `data_directory_in_use`, `unavailable`, `internal`.
    pub fn open(directory: &Path, options: DbOptions) -> Result<Self> {
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
        let path = directory.join("alpes.db");
        let writer = Connection::open(&path).map_err(|error| dialect::fault(&error))?;
        Self::start(writer, Some(path), Some(lock), options)
    }

    /// Opens an existing database beside the process that has the data directory: for reading, and for small writes that
    /// publish no event (API keys). Tables are neither created nor changed. Faults: `unavailable`, `internal`.
    pub fn open_beside(directory: &Path, options: DbOptions) -> Result<Self> {
        let path = directory.join("alpes.db");
        let writer =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .map_err(|error| dialect::fault(&error))?;
        Self::start(writer, Some(path), None, DbOptions { migrations: Vec::new(), ..options })
    }

    /// A database in memory, for tests and the simulator; readers share the writer's connection.
    pub fn in_memory(options: DbOptions) -> Result<Self> {
        let writer = Connection::open_in_memory().map_err(|error| dialect::fault(&error))?;
        Self::start(writer, None, None, options)
    }

    fn start(writer: Connection, path: Option<PathBuf>, lock: Option<File>, options: DbOptions) -> Result<Self> {
        configure(&writer, true).map_err(|error| dialect::fault(&error))?;
        let stats = Stats::default();
        let now = options.clock.now();
        if !options.migrations.is_empty() {
            migrations::run(&writer, &stats, &options.migrations, now)?;
        }
        let reader = Reader { connection: &writer, stats: &stats };
        let (head, known_at) = reader
            .query_one("SELECT position, known_at FROM log_head WHERE id = 1", &[], |row| {
                Ok((row.int(0)?, row.int(1)?))
            })?
            .unwrap_or((0, 0));
        Ok(Self {
            queue: Mutex::new(Queue { writer: Some(writer), waiting_front: 0, waiting_back: 0, front_in_a_row: 0 }),
            turn: Condvar::new(),
            pool: Mutex::new(Pool { idle: Vec::new(), open: 0 }),
            returned: Condvar::new(),
            path,
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

    /// The last committed position of the log.
    pub fn head(&self) -> i64 {
        self.head.load(Ordering::SeqCst)
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
    /// transactions apart in logs and crash points. Faults: those of `work` (rolled back), `unavailable`,
    /// `storage_full`, `writes_stopped`.
    pub fn write<T>(
        &self,
        name: &str,
        lane: Lane,
        actor: &str,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T>,
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
        if let Some(head) = outcome.head {
            self.head.fetch_max(head, Ordering::SeqCst);
            // Whoever has just found the old head holds the lock until it sleeps: it cannot miss the wake-up.
            drop(guard(&self.head_lock));
            self.head_moved.notify_all();
        }
    }

    /// Runs `work` on a consistent snapshot beside the writer.
    pub fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let Some(path) = &self.path else {
            let writer = self.turn(Lane::Front);
            let connection = writer.connection.as_ref().ok_or_else(|| Fault::internal("the writer is away"))?;
            return work(&Reader { connection, stats: &self.stats });
        };
        let loan = Loan { db: self, connection: Some(self.borrow(path)?) };
        let connection = loan.connection.as_ref().ok_or_else(|| Fault::internal("the reader is away"))?;
        connection.execute_batch("BEGIN").map_err(|error| dialect::fault(&error))?;
        // Ended on drop, also when `work` panics: the next borrower must find no snapshot of somebody else.
        let _open = Open { connection, stats: None, done: false };
        work(&Reader { connection, stats: &self.stats })
    }

    /// Moves what has been committed from the write-ahead log into the database file, without holding up readers or the
    /// writer. Above 64 MiB it takes the writer's turn and waits a moment for readers, so that the log starts again from
    /// its beginning and cannot grow without bound. Faults: `unavailable`, `storage_full`, `writes_stopped`.
    pub fn checkpoint(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        self.refuse_if_stopped()?;
        let loan = Loan { db: self, connection: Some(self.borrow(path)?) };
        let connection = loan.connection.as_ref().ok_or_else(|| Fault::internal("the reader is away"))?;
        // A connection that only queries may still checkpoint. The answer is (busy, pages in the log, pages moved).
        let run = |sql: &str| {
            let pages = connection.query_row(sql, [], |row| row.get::<_, i64>(1));
            pages.map_err(|error| self.driver_fault(&error))
        };
        let mut pages = run("PRAGMA wal_checkpoint(PASSIVE)")?;
        if pages > WAL_PAGES {
            let _turn = self.turn(Lane::Front);
            let driver = |error: rusqlite::Error| dialect::fault(&error);
            connection.busy_timeout(CHECKPOINT_PATIENCE).map_err(driver)?;
            let restarted = run("PRAGMA wal_checkpoint(RESTART)");
            connection.busy_timeout(PATIENCE).map_err(driver)?;
            pages = restarted?;
        }
        tracing::trace!(pages, "checkpoint");
        Ok(())
    }

    /// The size of the database file, in bytes; 0 in memory. After a checkpoint everything is in it.
    pub fn file_bytes(&self) -> u64 {
        self.path.as_deref().map_or(0, size)
    }

    /// The size of the database file and its write-ahead log, in bytes; 0 in memory.
    pub fn size_bytes(&self) -> u64 {
        self.file_bytes() + self.path.as_ref().map_or(0, |path| size(&path.with_extension("db-wal")))
    }

    fn at(&self, name: &str, moment: &'static str) -> Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(name, moment))
    }

    fn driver_fault(&self, error: &rusqlite::Error) -> Fault {
        if dialect::is_fatal(error) {
            self.stop();
        }
        dialect::fault(error)
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

    fn borrow(&self, path: &Path) -> Result<Connection> {
        let mut pool = guard(&self.pool);
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(connection);
            }
            if pool.open < READERS {
                pool.open += 1;
                break;
            }
            pool = self.returned.wait(pool).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        drop(pool);
        let opened =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .and_then(|connection| configure(&connection, false).map(|()| connection));
        opened.map_err(|error| {
            guard(&self.pool).open -= 1;
            // Somebody may wait for a connection while none is open any more: it is their turn to try.
            self.returned.notify_one();
            dialect::fault(&error)
        })
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn configure(connection: &Connection, writes: bool) -> rusqlite::Result<()> {
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

impl Turn<'_> {
    /// Runs `work` in one transaction, like [`Db::write`].
    pub fn write<T>(&self, name: &str, actor: &str, work: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let db = self.db;
        // Asked with the writer in hand: a sync may have failed while this thread waited for its turn.
        db.refuse_if_stopped()?;
        let connection = self.connection.as_ref().ok_or_else(|| Fault::internal("the writer is away"))?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| dialect::fault(&error))?;
        let mut open = Open { connection, stats: Some(&db.stats), done: false };
        let reader = Reader { connection, stats: &db.stats };
        let mut tx = Tx::new(reader, db.now(), actor, &db.ids);
        let answer = work(&mut tx);
        let (now, outcome) = (tx.now, tx.outcome);
        if outcome.sync_failed {
            db.stop();
        }
        let answer = answer?;
        if outcome.failed {
            return Err(Fault::internal(format!("{name}: a failed write was passed over, so nothing is committed")));
        }
        db.at(name, "before_commit")?;
        connection.execute_batch("COMMIT").map_err(|error| db.driver_fault(&error))?;
        open.done = true;
        db.committed(now, &outcome);
        drop(open);
        db.at(name, "after_commit")?;
        Ok(answer)
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
        // After some errors the database has rolled back by itself.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

#[cfg(test)]
mod tests;
