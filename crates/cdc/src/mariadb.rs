//! MariaDB: inserts of the event log from the binary log, by global transaction id. A thread of the stream reads, because
//! the client can only wait; a bounded channel holds it back. It must not know who receives events.

mod admin;
mod binlog;
mod gtid;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use kernel::{EventRecord, Fault, Result};
use platform::Endpoint;

pub(crate) use self::admin::{current_place, preflight, slots};
use self::gtid::Gtids;
use crate::connect::lost;
use crate::sequence::{Batch, Sequence};
use crate::{Lag, PLACE_LOST};

/// So many pieces of the binary log may wait for the relay; each is a transaction, or about a mebibyte of a larger one.
const WAITING: usize = 32;

/// A place between two transactions.
#[derive(Debug, Clone, Default)]
struct Place {
    gtids: Gtids,
    /// The file and offset of the same place, to tell how far behind it is.
    file: Arc<str>,
    offset: u64,
}

/// What the reading thread found.
#[derive(Default)]
struct Piece {
    events: Vec<EventRecord>,
    /// The place behind it, when it ends a transaction.
    end: Option<Place>,
}

/// An open stream.
pub(crate) struct Stream {
    endpoint: Endpoint,
    pieces: Receiver<Result<Piece>>,
    sequence: Sequence<Place>,
    is_inside: bool,
    /// The place up to which everything was told.
    reached: Gtids,
    /// Where the binary log ended when the stream was opened.
    must_reach: Gtids,
    /// What of a piece no longer fitted into the last batch.
    rest: Option<Piece>,
    /// What ended the stream, told after what came before it.
    broken: Option<Fault>,
}

impl Stream {
    pub(crate) fn open(endpoint: Endpoint, name: &str, after: i64, resume: Option<&str>) -> Result<Self> {
        let start = admin::start(&endpoint, resume)?;
        let reader = binlog::Reader::open(&endpoint, name, &start)?;
        let (sender, pieces) = sync_channel(WAITING);
        spawn(move || reader.run(&sender))?;
        let place = Place { gtids: start.gtids.clone(), ..Place::default() };
        Ok(Self {
            endpoint,
            pieces,
            sequence: Sequence::new(after, start.head, place),
            is_inside: false,
            reached: start.gtids,
            must_reach: start.end,
            rest: None,
            broken: None,
        })
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
        if let Some(piece) = self.rest.take() {
            self.take(piece, batch)?;
        }
        while !batch.is_full() {
            let is_whole = !batch.events.is_empty() && !self.is_inside;
            let patience = if is_whole { Duration::ZERO } else { deadline.saturating_duration_since(now()) };
            match self.pieces.recv_timeout(patience) {
                Ok(piece) => self.take(piece?, batch)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(lost(&"the reader of the binary log ended")),
            }
        }
        // A stream that begins behind an event of the table which nobody has relayed will never tell it.
        if self.sequence.awaits_head() && batch.events.is_empty() && self.reached.covers(&self.must_reach) {
            return Err(self.sequence.head_is_missing());
        }
        Ok(())
    }

    fn take(&mut self, piece: Piece, batch: &mut Batch) -> Result<()> {
        let mut events = piece.events.into_iter();
        while let Some(event) = events.next() {
            self.is_inside = true;
            self.sequence.admit(event, batch)?;
            if batch.is_full() {
                self.rest = Some(Piece { events: events.collect(), end: piece.end });
                return Ok(());
            }
        }
        if let Some(end) = piece.end {
            self.is_inside = false;
            self.reached = end.gtids.clone();
            self.sequence.close(end);
        }
        Ok(())
    }

    pub(crate) fn acknowledge(&mut self, position: i64) {
        self.sequence.acknowledge(position);
    }

    pub(crate) fn resume_token(&self) -> String {
        self.sequence.confirmed().gtids.to_string()
    }

    pub(crate) fn lag(&self) -> Result<Lag> {
        admin::lag(&self.endpoint, self.sequence.confirmed(), self.broken.is_none())
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: its waiting is real")]
fn now() -> Instant {
    Instant::now()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name("cdc".to_owned()).spawn(work).map(drop).map_err(Fault::internal)
}

/// Bytes that are not what the protocol promises.
fn garbled(words: impl std::fmt::Display) -> Fault {
    lost(&format!("the binary log is not understood: {words}"))
}

/// What the log holds was not written so that it can be read here, and reading it again would not help.
fn unreadable(words: impl std::fmt::Display) -> Fault {
    Fault::new(&PLACE_LOST, format!("the binary log holds {words}"))
}
