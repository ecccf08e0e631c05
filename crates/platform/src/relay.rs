//! The relay: takes the log to a sink, in order, at least once. Its cursor moves after the sink has told that the events
//! are durable there, so that a crash repeats and never loses. It must not know what an event means or where a sink leads.

use kernel::{Fault, Result, problems};

use crate::consumer::{self, Step};
use crate::db::{Db, Lane};
use crate::event_log;
use crate::lease::{self, Fence};
use crate::sink::Sink;

/// The events that are handed over at once at most.
const LARGEST_SLICE: usize = 512;

/// Takes the log to one sink, a step at a time.
pub struct Relay {
    sink: Box<dyn Sink>,
    name: String,
    /// The right to relay to this sink, where several processes could.
    pub fence: Option<Fence>,
}

impl Relay {
    /// A relay to this sink; its cursor is called `relay:<sink>`.
    pub fn new(sink: Box<dyn Sink>) -> Self {
        let name = format!("relay:{}", sink.name());
        Self { sink, name, fence: None }
    }

    /// The name of its cursor and of its lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands over the next slice. Faults: those of the sink, then the same events come again; `lease_lost`, then
    /// another process goes on.
    pub fn step(&mut self, db: &Db) -> Result<Step> {
        let head = db.head();
        let (after, events) = db.read(|reader| {
            let after = consumer::position(reader, &self.name)?;
            Ok((after, event_log::range(reader, after, head, &[], LARGEST_SLICE)?))
        })?;
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
        Ok(Step::Moved(last - after))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kernel::EventRecord;

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
        let mut relay = Relay::new(Box::new(sink.clone()));
        assert_eq!(relay.step(&db).unwrap(), Step::Idle);
        let events: Vec<_> = (0..600).map(|n| event(&format!("{}", n % 7))).collect();
        publish(&db, &events);
        *guard(&sink.failing) = true;
        assert_eq!(relay.step(&db).unwrap_err().code(), "unavailable");
        *guard(&sink.failing) = false;
        assert_eq!((relay.step(&db).unwrap(), relay.step(&db).unwrap()), (Step::Moved(512), Step::Moved(88)));
        assert_eq!(relay.step(&db).unwrap(), Step::Idle);
        let expected: Vec<i64> = (1..=512).chain(1..=600).collect();
        assert_eq!(*guard(&sink.delivered), expected);
    }

    #[test]
    fn whoever_lost_the_lease_does_not_move_the_cursor() {
        let db = in_memory();
        publish(&db, &[event("a")]);
        let sink = Recorded::default();
        let mut relay = Relay::new(Box::new(sink.clone()));
        let take = |holder: &str| {
            db.write("test", Lane::Back, "system", |tx| {
                lease::release(tx, "first")?;
                lease::take(tx, holder, &["relay:recorded"])
            })
        };
        relay.fence = take("first").unwrap().pop();
        take("second").unwrap();
        assert_eq!(relay.step(&db).unwrap_err().code(), "lease_lost");
        assert_eq!(db.read(|reader| consumer::position(reader, "relay:recorded")).unwrap(), 0);
    }
}
