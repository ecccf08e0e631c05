//! PostgreSQL: inserts of the event log by logical replication. The slot keeps the place, elects the one reader and
//! holds back the log of changes; what is acknowledged here is confirmed to it. It must not know who receives events.

mod admin;
mod pgoutput;
mod wire;

use std::time::{Duration, Instant};

use kernel::{EventRecord, Fault, Result};
use platform::Endpoint;

pub(crate) use self::admin::{preflight, remove, setup, slots};
use self::pgoutput::{Decoder, Message};
use self::wire::Wire;
use crate::Lag;
use crate::connect::lost;
use crate::sequence::{Batch, Sequence};

/// The server hears from us at least this often; it gives up after `wal_sender_timeout`, which is a minute by default.
const STATUS_EVERY: Duration = Duration::from_secs(10);

pub(crate) fn slot(name: &str) -> String {
    format!("alpes_{name}")
}

/// An open stream.
pub(crate) struct Stream {
    endpoint: Endpoint,
    slot: String,
    wire: Wire,
    state: State,
    status_at: Instant,
    /// What ended the stream, told after what came before it.
    broken: Option<Fault>,
}

/// What the messages have said so far.
struct State {
    decoder: Decoder,
    sequence: Sequence<u64>,
    /// Inside a transaction, all of which is committed already.
    is_inside: bool,
    /// The latest place in the log of changes that the server spoke of.
    seen: u64,
    /// Where the log of changes ended when the stream was opened, until the events of the table up to then have come.
    must_reach: u64,
    wants_reply: bool,
}

impl Stream {
    pub(crate) fn open(endpoint: Endpoint, name: &str, after: i64) -> Result<Self> {
        let slot = slot(name);
        let start = admin::start(&endpoint, &slot)?;
        let wire = Wire::replicate(&endpoint, &slot)?;
        let sequence = Sequence::new(after, start.head, start.confirmed);
        let state = State {
            decoder: Decoder::default(),
            sequence,
            is_inside: false,
            seen: start.confirmed,
            must_reach: start.end,
            wants_reply: true,
        };
        Ok(Self { endpoint, slot, wire, state, status_at: now(), broken: None })
    }

    pub(crate) fn next(&mut self, at_most: Duration) -> Result<Vec<EventRecord>> {
        if let Some(fault) = &self.broken {
            return Err(fault.clone());
        }
        let mut batch = Batch::default();
        if let Err(fault) = self.collect(at_most, &mut batch) {
            self.broken = Some(fault.clone());
            if batch.events.is_empty() {
                return Err(fault);
            }
        }
        Ok(batch.events)
    }

    fn collect(&mut self, at_most: Duration, batch: &mut Batch) -> Result<()> {
        let deadline = now() + at_most;
        let mut has_looked = false;
        loop {
            while !batch.is_full()
                && let Some(message) = self.wire.buffered()?
            {
                self.state.take(message, batch)?;
            }
            if std::mem::take(&mut self.state.wants_reply) || now() >= self.status_at + STATUS_EVERY {
                self.tell()?;
            }
            let is_whole = !batch.events.is_empty() && !self.state.is_inside;
            let left = deadline.saturating_duration_since(now());
            if batch.is_full() || is_whole || has_looked && left.is_zero() {
                break;
            }
            self.wire.read(left.min(STATUS_EVERY))?;
            has_looked = true;
        }
        // An idle server says how far it has come when it is asked.
        self.state.wants_reply |= self.state.sequence.awaits_head() && batch.events.is_empty();
        self.state.check_head(batch)
    }

    pub(crate) fn acknowledge(&mut self, position: i64) -> Result<()> {
        // Each confirmation is small, and the server writes it down only with its next checkpoint.
        if self.state.sequence.acknowledge(position) && self.broken.is_none() { self.tell() } else { Ok(()) }
    }

    /// Tells the server what is confirmed. While a table's early events are awaited, it is asked how far it has come.
    fn tell(&mut self) -> Result<()> {
        self.status_at = now();
        let state = &self.state;
        self.wire.status(state.seen, *state.sequence.confirmed(), state.sequence.awaits_head())
    }

    pub(crate) fn resume_token(&self) -> String {
        admin::lsn_text(*self.state.sequence.confirmed())
    }

    pub(crate) fn lag(&self) -> Result<Lag> {
        admin::lag(&self.endpoint, &self.slot)
    }
}

impl State {
    fn take(&mut self, message: wire::Copied<'_>, batch: &mut Batch) -> Result<()> {
        match message {
            wire::Copied::KeepAlive { end, wants_reply } => {
                self.wants_reply |= wants_reply;
                self.seen = self.seen.max(end);
                // Changes of other tables alone would otherwise be held back for ever.
                if !self.is_inside {
                    self.sequence.close(end);
                }
                Ok(())
            }
            wire::Copied::Change { data, end } => {
                self.seen = self.seen.max(end);
                match self.decoder.decode(data, &self.sequence)? {
                    Message::Begin => self.is_inside = true,
                    Message::Insert(event) => self.sequence.admit(event, batch)?,
                    Message::Commit { end } => {
                        self.is_inside = false;
                        self.sequence.close(end);
                    }
                    Message::Nothing => {}
                }
                Ok(())
            }
        }
    }

    /// The slot may be younger than an event of the table that nobody has relayed: when the server has told all that
    /// there was and it has not come, it never will.
    fn check_head(&mut self, batch: &Batch) -> Result<()> {
        if self.sequence.awaits_head() && batch.events.is_empty() && !self.is_inside && self.seen >= self.must_reach {
            return Err(self.sequence.head_is_missing());
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: the deadlines of a socket are real")]
fn now() -> Instant {
    Instant::now()
}

/// Bytes that are not what the protocol promises.
fn garbled(words: impl std::fmt::Display) -> Fault {
    lost(&format!("the server's answer is not understood: {words}"))
}
