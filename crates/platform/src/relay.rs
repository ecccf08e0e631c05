//! The relay: takes the log to a sink, in order, at least once. Its cursor moves after the sink has told that the events
//! are durable there, so that a crash repeats and never loses. It must not know what an event means or where a sink leads.

use kernel::{Duration, EventRecord, Fault, Result, problems};

use crate::consumer::{self, Step};
use crate::db::{Db, Lane};
use crate::event_log;
use crate::lease::{self, Fence};
use crate::sink::Sink;

/// The events that are read from the table at once at most.
const LARGEST_SLICE: usize = 512;

/// Where a relay gets its events: the table, or what the database tells of its changes.
pub trait Source: Send {
    /// The next events after `after`, in order and without a gap; none when nothing comes within `at_most`. A relay that
    /// answered a fault asks again, also for what it had before.
    fn next(&mut self, db: &Db, after: i64, at_most: Duration) -> Result<Vec<EventRecord>>;

    /// The sink has everything up to `position`: the source need not keep it.
    fn acknowledge(&mut self, position: i64) -> Result<()>;
}

/// Reads the table when the log has moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Polling;

impl Source for Polling {
    fn next(&mut self, db: &Db, after: i64, at_most: Duration) -> Result<Vec<EventRecord>> {
        let head = db.wait_past(after, at_most);
        db.read(|reader| event_log::range(reader, after, head, &[], LARGEST_SLICE))
    }

    fn acknowledge(&mut self, _: i64) -> Result<()> {
        Ok(())
    }
}

/// Takes the log to one sink, a step at a time.
pub struct Relay {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    name: String,
    /// The right to relay to this sink, where several processes could.
    pub fence: Option<Fence>,
}

impl Relay {
    /// A relay to this sink; its cursor is called `relay:<sink>`.
    pub fn new(source: Box<dyn Source>, sink: Box<dyn Sink>) -> Self {
        let name = format!("relay:{}", sink.name());
        Self { source, sink, name, fence: None }
    }

    /// The name of its cursor and of its lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goes back, so that the events from `position` on are taken once more; never forward, that would leave some out.
    /// Faults: `lease_lost`; `invalid` when it has not come so far.
    pub fn go_back(&self, db: &Db, position: i64) -> Result<()> {
        db.write(&self.name, Lane::Back, "system", |tx| {
            if let Some(fence) = &self.fence {
                lease::require(tx, fence)?;
            }
            let reached = consumer::position(tx, &self.name)?;
            if !(1..=reached + 1).contains(&position) {
                let detail =
                    format!("{} has taken the events up to {reached}: name one from 1 to {reached}", self.name);
                return Err(Fault::new(&problems::INVALID, detail));
            }
            consumer::advance(tx, &self.name, position - 1)
        })
    }

    /// Hands over the next slice, waiting for one up to `at_most`. Faults: those of the source and the sink, then the
    /// same events come again; `lease_lost`, then another process goes on.
    pub fn step(&mut self, db: &Db, at_most: Duration) -> Result<Step> {
        let after = db.read(|reader| consumer::position(reader, &self.name))?;
        let events = self.source.next(db, after, at_most)?;
        let Some(last) = events.last().map(|event| event.position) else { return Ok(Step::Idle) };
        if !events.iter().zip(after + 1..).all(|(event, position)| event.position == position) {
            return Err(Fault::internal(format!("the log has a gap after position {after}")));
        }
        self.sink.deliver(&events)?;
        db.write(&self.name, Lane::Back, "system", |tx| {
            if let Some(fence) = &self.fence {
                lease::require(tx, fence)?;
            }
            if consumer::position(tx, &self.name)? != after {
                let detail = format!("the cursor of {} was moved by somebody else; it is read again", self.name);
                return Err(Fault::new(&problems::UNAVAILABLE, detail));
            }
            consumer::advance(tx, &self.name, last)
        })?;
        self.source.acknowledge(last)?;
        Ok(Step::Moved(last - after))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::db::guard;
    use crate::testing::{event, in_memory, publish};

    #[derive(Clone, Default)]
    struct Recorded {
        delivered: Arc<Mutex<Vec<i64>>>,
        failing: Arc<Mutex<bool>>,
    }

    impl Sink for Recorded {
        fn name(&self) -> &str {
            "recorded"
        }

        fn deliver(&mut self, events: &[EventRecord]) -> Result<()> {
            guard(&self.delivered).extend(events.iter().map(|event| event.position));
            if *guard(&self.failing) { Err(Fault::new(&problems::UNAVAILABLE, "no receipt")) } else { Ok(()) }
        }
    }

    #[test]
    fn everything_is_relayed_in_order_and_comes_again_without_a_receipt() {
        let db = in_memory();
        let sink = Recorded::default();
        let mut relay = Relay::new(Box::new(Polling), Box::new(sink.clone()));
        assert_eq!(relay.step(&db, Duration::ZERO).unwrap(), Step::Idle);
        let events: Vec<_> = (0..600).map(|n| event(&format!("{}", n % 7))).collect();
        publish(&db, &events);
        *guard(&sink.failing) = true;
        assert_eq!(relay.step(&db, Duration::ZERO).unwrap_err().code(), "unavailable");
        *guard(&sink.failing) = false;
        assert_eq!(
            (relay.step(&db, Duration::ZERO).unwrap(), relay.step(&db, Duration::ZERO).unwrap()),
            (Step::Moved(512), Step::Moved(88))
        );
        assert_eq!(relay.step(&db, Duration::ZERO).unwrap(), Step::Idle);
        let expected: Vec<i64> = (1..=512).chain(1..=600).collect();
        assert_eq!(*guard(&sink.delivered), expected);
    }

    #[test]
    fn what_was_taken_is_taken_once_more_on_demand() {
        let db = in_memory();
        publish(&db, &(0..5).map(|n| event(&format!("{n}"))).collect::<Vec<_>>());
        let sink = Recorded::default();
        let mut relay = Relay::new(Box::new(Polling), Box::new(sink.clone()));
        assert_eq!(relay.go_back(&db, 2).unwrap_err().code(), "invalid", "nothing was taken yet");
        relay.step(&db, Duration::ZERO).unwrap();
        relay.go_back(&db, 4).unwrap();
        assert_eq!(relay.step(&db, Duration::ZERO).unwrap(), Step::Moved(2));
        assert_eq!(*guard(&sink.delivered), [1, 2, 3, 4, 5, 4, 5]);
        for wrong in [0, 7] {
            assert!(relay.go_back(&db, wrong).unwrap_err().to_string().contains("from 1 to 5"));
        }
    }

    #[test]
    fn whoever_lost_the_lease_does_not_move_the_cursor() {
        let db = in_memory();
        publish(&db, &[event("a")]);
        let sink = Recorded::default();
        let mut relay = Relay::new(Box::new(Polling), Box::new(sink.clone()));
        let take = |holder: &str| {
            db.write("test", Lane::Back, "system", |tx| {
                lease::release(tx, "first")?;
                lease::take(tx, holder, &["relay:recorded"])
            })
        };
        relay.fence = take("first").unwrap().pop();
        take("second").unwrap();
        assert_eq!(relay.step(&db, Duration::ZERO).unwrap_err().code(), "lease_lost");
        assert_eq!(db.read(|reader| consumer::position(reader, "relay:recorded")).unwrap(), 0);
    }
}
