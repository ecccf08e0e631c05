//! The way of facts into the database: a bounded queue between the handlers and one committer. The committer takes what
//! waits, without a timer, and writes it in one transaction; so the sync of one transaction is shared by as many
//! requests as came meanwhile. An answer is given only after the commit.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conversions::{Prepared, Receipt};
use kernel::{Fault, Kind, Result};
use platform::idempotency::{self, IdempotencyKey, Reply};
use platform::{Db, Lane, Turn, Tx};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use crate::metrics::batch_sizes;
use crate::problem::OVERLOADED;

/// Facts of one transaction at most, unless a single job brings more (ADR 0001).
pub const LARGEST_BATCH: usize = 4_096;

/// The reply that is stored under a job's Idempotency-Key; none when nothing is to be stored.
pub(crate) type Render = Box<dyn Fn(&[Result<Receipt>]) -> Option<Reply> + Send>;

/// What became of a job.
#[derive(Debug)]
pub enum Outcome {
    /// One result per fact, in order; whatever is a receipt is durable.
    Recorded(Vec<Result<Receipt>>),
    /// The job's Idempotency-Key had been used for the same request: the reply that was given then.
    Replayed(Reply),
}

/// Resolves when a job is done.
pub type Answer = oneshot::Receiver<Result<Outcome>>;

/// Facts that are recorded together, each by itself: one bad fact does not fail the others.
pub struct Job {
    actor: Arc<str>,
    facts: Vec<Prepared>,
    correlation_id: Option<String>,
    idempotency: Option<(IdempotencyKey, Render)>,
    answer: oneshot::Sender<Result<Outcome>>,
}

impl Job {
    /// A job of `actor`, and where its outcome appears.
    pub fn new(actor: Arc<str>, facts: Vec<Prepared>, correlation_id: Option<String>) -> (Self, Answer) {
        let (answer, outcome) = oneshot::channel();
        (Self { actor, facts, correlation_id, idempotency: None, answer }, outcome)
    }

    /// Stores the reply under this key, in the transaction of the facts.
    pub(crate) fn once(&mut self, key: IdempotencyKey, render: Render) {
        self.idempotency = Some((key, render));
    }

    fn key(&self) -> Option<&str> {
        self.idempotency.as_ref().map(|(key, _)| key.key.as_str())
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    facts: usize,
}

struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    capacity_facts: usize,
    batch_sizes: Histogram,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handlers' end of the queue; cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Queue>);

impl Intake {
    /// A queue for this many facts, and the committer that empties it.
    pub fn new(capacity_facts: usize) -> (Self, Committer) {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            capacity_facts,
            batch_sizes: batch_sizes(),
        });
        (Self(Arc::clone(&queue)), Committer { queue, max_batch: LARGEST_BATCH })
    }

    /// Queues a job; never waits. Fault: `overloaded`, when the queue is full.
    pub fn submit(&self, job: Job) -> Result<()> {
        let mut waiting = self.0.lock();
        if waiting.facts > 0 && waiting.facts + job.facts.len() > self.0.capacity_facts {
            return Err(Fault::new(&OVERLOADED, "the intake is full; nothing of this request was taken"));
        }
        // The committer waits only for an empty queue: who adds to a full one needs no system call.
        let was_empty = waiting.jobs.is_empty();
        waiting.facts += job.facts.len();
        waiting.jobs.push_back(job);
        drop(waiting);
        if was_empty {
            self.0.arrived.notify_one();
        }
        Ok(())
    }

    /// How many facts wait.
    pub(crate) fn queued_facts(&self) -> usize {
        self.0.lock().facts
    }

    /// How many facts the transactions had.
    pub(crate) fn batch_sizes(&self) -> Histogram {
        self.0.batch_sizes.clone()
    }
}

/// The writing end of the queue. There is one, and a thread of the server drives it.
pub struct Committer {
    queue: Arc<Queue>,
    /// Facts of one transaction at most, unless a single job brings more; 1 shows what sharing a sync is worth.
    pub max_batch: usize,
}

impl Committer {
    /// Waits up to `at_most` for a first job, then for the writer, and writes what waits by then; answers how many facts
    /// those jobs had. There is one transaction for all of them, or, when several actors wait, one for each actor.
    pub fn step(&mut self, db: &Db, at_most: Duration) -> usize {
        if !self.wait(at_most) {
            return 0;
        }
        let writer = db.turn(Lane::Front);
        let jobs = self.take();
        let facts = jobs.iter().map(|job| job.facts.len()).sum();
        let mut settled = Vec::with_capacity(jobs.len());
        for group in groups(jobs) {
            self.commit(&writer, group, &mut settled);
        }
        drop(writer);
        for (answer, outcome) in settled {
            // The client may have gone away; the facts stand all the same.
            let _ = answer.send(outcome);
        }
        facts
    }

    fn wait(&self, at_most: Duration) -> bool {
        let waiting = self.queue.lock();
        let waited = self.queue.arrived.wait_timeout_while(waiting, at_most, |waiting| waiting.jobs.is_empty());
        !waited.unwrap_or_else(PoisonError::into_inner).0.jobs.is_empty()
    }

    fn take(&self) -> Vec<Job> {
        let mut waiting = self.queue.lock();
        let mut facts = 0;
        let mut fitting = 0;
        for job in &waiting.jobs {
            if fitting > 0 && facts + job.facts.len() > self.max_batch {
                break;
            }
            facts += job.facts.len();
            fitting += 1;
        }
        waiting.facts -= facts;
        waiting.jobs.drain(..fitting).collect()
    }

    fn commit(&self, writer: &Turn<'_>, mut jobs: Vec<Job>, settled: &mut Vec<Settled>) {
        let mut batch = Batch::default();
        // A panic must end one request, not the intake: the transaction is rolled back while it unwinds.
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let actor = Arc::clone(&jobs[0].actor);
            writer.write("intake", &actor, |tx| batch.write(tx, &mut jobs))
        }));
        let attempt = attempt.unwrap_or_else(|_| Err(Fault::internal("the intake panicked")));
        match attempt {
            Ok(outcomes) => {
                if !batch.facts.is_empty() {
                    self.queue.batch_sizes.observe(size(batch.facts.len()));
                }
                settled.extend(jobs.into_iter().map(|job| job.answer).zip(outcomes));
            }
            Err(fault) if jobs.len() > 1 && fault.kind() != Kind::Unavailable => {
                tracing::warn!(%fault, jobs = jobs.len(), "a batch failed: its jobs are tried one by one");
                batch.give_back(&mut jobs);
                jobs.into_iter().for_each(|job| self.commit(writer, vec![job], settled));
            }
            Err(fault) => settled.extend(jobs.into_iter().map(|job| (job.answer, Err(fault.clone())))),
        }
    }
}

/// A job's end: where its outcome is awaited, and the outcome.
type Settled = (oneshot::Sender<Result<Outcome>>, Result<Outcome>);

fn size(facts: usize) -> f64 {
    u32::try_from(facts).map_or(f64::MAX, f64::from)
}

/// One group per actor, in order of arrival; a key that is used twice falls into two groups, so that the second sees
/// the reply to the first.
fn groups(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut groups: Vec<Vec<Job>> = Vec::new();
    for job in jobs {
        let fits = |group: &Vec<Job>| {
            group[0].actor == job.actor && (job.key().is_none() || group.iter().all(|other| other.key() != job.key()))
        };
        match groups.iter().position(fits) {
            Some(index) => groups[index].push(job),
            None => groups.push(vec![job]),
        }
    }
    groups
}

/// The facts of one transaction, taken out of their jobs.
#[derive(Default)]
struct Batch {
    facts: Vec<Prepared>,
    /// How many facts each job gave.
    given: Vec<usize>,
}

impl Batch {
    fn write(&mut self, tx: &mut Tx<'_>, jobs: &mut [Job]) -> Result<Vec<Result<Outcome>>> {
        // A transaction that a server ended in the middle runs again as a whole.
        self.give_back(jobs);
        let mut settled = jobs.iter().map(|job| earlier(tx, job)).collect::<Result<Vec<_>>>()?;
        for (job, settled) in jobs.iter_mut().zip(&settled) {
            self.given.push(if settled.is_some() { 0 } else { job.facts.len() });
            if settled.is_none() {
                self.facts.append(&mut job.facts);
            }
        }
        let correlation_ids: Vec<Option<&str>> = jobs
            .iter()
            .zip(&self.given)
            .flat_map(|(job, &given)| std::iter::repeat_n(job.correlation_id.as_deref(), given))
            .collect();
        let mut results = conversions::record(tx, &self.facts, &correlation_ids)?.into_iter();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for ((job, &given), settled) in jobs.iter().zip(&self.given).zip(&mut settled) {
            outcomes.push(match settled.take() {
                Some(outcome) => outcome,
                None => {
                    let results: Vec<_> = results.by_ref().take(given).collect();
                    if let Some((key, render)) = &job.idempotency
                        && let Some(reply) = render(&results)
                    {
                        idempotency::store(tx, key, &reply)?;
                    }
                    Ok(Outcome::Recorded(results))
                }
            });
        }
        Ok(outcomes)
    }

    fn give_back(&mut self, jobs: &mut [Job]) {
        let mut facts = std::mem::take(&mut self.facts).into_iter();
        for (job, given) in jobs.iter_mut().zip(std::mem::take(&mut self.given)) {
            job.facts.extend(facts.by_ref().take(given));
        }
    }
}

/// What a job's key was answered before, or that it belongs to another request.
fn earlier(tx: &Tx<'_>, job: &Job) -> Result<Option<Result<Outcome>>> {
    let Some((key, _)) = &job.idempotency else { return Ok(None) };
    match idempotency::find(tx, tx.actor(), key) {
        Ok(reply) => Ok(reply.map(|reply| Ok(Outcome::Replayed(reply)))),
        Err(fault) if fault.kind() == Kind::Unprocessable => Ok(Some(Err(fault))),
        Err(fault) => Err(fault),
    }
}
