//! Change data capture as the source of a relay: the database tells each commit as it happens. Whatever lies between the
//! relay's cursor and the place where the stream begins is read from the table, so that no place has to be kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cdc::{Lag, Stream};
use kernel::{Duration, EventRecord, Fault, Result};
use platform::{Db, Location, Polling, Source};

/// How far the streams of this process are behind, by name: a database that keeps no places cannot tell it to others.
#[derive(Clone, Default)]
pub(crate) struct Lags(Arc<Mutex<BTreeMap<String, Lag>>>);

impl Lags {
    /// As last measured.
    pub(crate) fn known(&self) -> BTreeMap<String, Lag> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, name: &str, lag: Option<Lag>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lag {
            Some(lag) => drop(known.insert(name.to_owned(), lag)),
            None => drop(known.remove(name)),
        }
    }
}

/// Measuring asks the database something.
const MEASURE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// The events of a server's log of changes.
pub(crate) struct Changes {
    location: Location,
    name: String,
    state: State,
    lags: Lags,
    measured: Option<Instant>,
}

enum State {
    /// Nothing is open.
    Closed,
    /// The stream's place is kept since `token`; the table is read up to `up_to`, which was committed before.
    CatchingUp { token: String, up_to: i64 },
    /// The stream tells everything after what was read.
    Streaming(Box<Stream>),
}

impl Changes {
    /// Refuses at once what could not work: a database that tells no changes, or wrong settings, with the line to change.
    pub(crate) fn open(location: &Location, sink: &str, lags: Lags) -> Result<Self> {
        let name = format!("relay_{sink}");
        cdc::preflight(location, &name)?;
        Ok(Self { location: location.clone(), name, state: State::Closed, lags, measured: None })
    }

    fn advance(&mut self, db: &Db, after: i64, at_most: Duration) -> Result<Vec<EventRecord>> {
        match &mut self.state {
            State::Closed => {
                let token = cdc::setup(&self.location, &self.name)?;
                // Looked at after the stream's place is kept: what is committed later is in the stream.
                let up_to = db.look_at_head()?;
                self.state = State::CatchingUp { token, up_to };
                Ok(Vec::new())
            }
            State::CatchingUp { token, up_to } if after >= *up_to => {
                let stream = Stream::open(&self.location, &self.name, after, Some(token))?;
                self.state = State::Streaming(Box::new(stream));
                Ok(Vec::new())
            }
            State::CatchingUp { .. } => Polling.next(db, after, Duration::ZERO),
            State::Streaming(stream) => {
                let mut events = stream.next(at_most)?;
                // What the cursor has already, after a fault that came between the sink and the cursor.
                events.retain(|event| event.position > after);
                Ok(events)
            }
        }
    }

    /// Where the database cannot say it, the stream tells how far it is behind.
    #[expect(clippy::disallowed_methods, reason = "it is measured by the clock, from time to time")]
    fn measure(&mut self) {
        let State::Streaming(stream) = &self.state else { return };
        if cdc::keeps_places(&self.location) || self.measured.is_some_and(|at| at.elapsed() < MEASURE_EVERY) {
            return;
        }
        self.measured = Some(Instant::now());
        match stream.lag() {
            Ok(lag) => self.lags.tell(&self.name, Some(lag)),
            Err(fault) => tracing::debug!(%fault, name = self.name, "how far the stream is behind cannot be measured"),
        }
    }

    fn close(&mut self, fault: &Fault) -> Result<()> {
        self.state = State::Closed;
        self.measured = None;
        self.lags.tell(&self.name, None);
        if cdc::must_set_up(fault) {
            tracing::error!(%fault, name = self.name, "the place in the log of changes is lost: the table is read, and a new place taken");
            cdc::remove(&self.location, &self.name)?;
        }
        Ok(())
    }
}

impl Source for Changes {
    fn next(&mut self, db: &Db, after: i64, at_most: Duration) -> Result<Vec<EventRecord>> {
        self.measure();
        // Opening and catching up answer nothing at first: the next events are what was asked for.
        loop {
            let was_streaming = matches!(self.state, State::Streaming(_));
            match self.advance(db, after, at_most) {
                Ok(events) if events.is_empty() && !was_streaming => {}
                Ok(events) => {
                    if events.first().is_some_and(|event| event.position != after + 1) {
                        self.state = State::Closed;
                        continue;
                    }
                    return Ok(events);
                }
                Err(fault) => {
                    self.close(&fault)?;
                    return Err(fault);
                }
            }
        }
    }

    fn acknowledge(&mut self, position: i64) -> Result<()> {
        let State::Streaming(stream) = &mut self.state else { return Ok(()) };
        stream.acknowledge(position).inspect_err(|_| self.state = State::Closed)
    }
}
