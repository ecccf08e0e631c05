//! What has been handed out and what of it is acknowledged: positions follow each other without a gap, and a place in
//! the database's log is confirmed when all events before it are. It must not know what a place is.

use std::collections::VecDeque;

use kernel::{EventRecord, Fault, Result};

use crate::EVENTS_MISSING;

/// A batch ends at so many events or bytes.
const BATCH_EVENTS: usize = 4_096;
const BATCH_BYTES: usize = 4 << 20;
/// So many places are remembered at most; of more, only the latest, so that confirmation becomes coarser.
const OPEN_PLACES: usize = 4_096;

/// Events on their way out.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<EventRecord>,
    bytes: usize,
}

impl Batch {
    pub(crate) const fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }
}

/// The order of what is handed out, and the places behind it.
pub(crate) struct Sequence<P> {
    /// The last position that was handed out.
    last: i64,
    acknowledged: i64,
    /// Places not yet confirmed, each with the last position before it.
    open: VecDeque<(i64, P)>,
    confirmed: P,
    /// The last position of the table when the stream was opened: all up to it must come.
    head: i64,
}

impl<P: Clone> Sequence<P> {
    pub(crate) const fn new(after: i64, head: i64, confirmed: P) -> Self {
        Self { last: after, acknowledged: after, open: VecDeque::new(), confirmed, head }
    }

    /// Whether an event at this position was handed out already.
    pub(crate) const fn is_old(&self, position: i64) -> bool {
        position <= self.last
    }

    /// Takes an event into the batch, unless it was handed out already. Fault: one before it is missing.
    pub(crate) fn admit(&mut self, event: EventRecord, batch: &mut Batch) -> Result<()> {
        if self.is_old(event.position) {
            return Ok(());
        }
        if event.position != self.last + 1 {
            return Err(self.missing(event.position));
        }
        self.last = event.position;
        batch.bytes += event.payload.len() + 256;
        batch.events.push(event);
        Ok(())
    }

    /// The stream has told everything up to `place`.
    pub(crate) fn close(&mut self, place: P) {
        if self.last <= self.acknowledged && self.open.is_empty() {
            self.confirmed = place;
            return;
        }
        let is_full = self.open.len() >= OPEN_PLACES;
        match self.open.back_mut() {
            Some(back) if back.0 == self.last || is_full => *back = (self.last, place),
            _ => self.open.push_back((self.last, place)),
        }
    }

    /// Everything up to `position` is durable with the receiver; answers whether a place became confirmed by that.
    pub(crate) fn acknowledge(&mut self, position: i64) -> bool {
        self.acknowledged = self.acknowledged.max(position.min(self.last));
        let mut moved = false;
        while let Some((last, _)) = self.open.front()
            && *last <= self.acknowledged
            && let Some((_, place)) = self.open.pop_front()
        {
            self.confirmed = place;
            moved = true;
        }
        moved
    }

    /// The place behind which nothing is acknowledged.
    pub(crate) const fn confirmed(&self) -> &P {
        &self.confirmed
    }

    /// Whether events that the table has had since before the stream was opened have not come yet.
    pub(crate) const fn awaits_head(&self) -> bool {
        self.last < self.head
    }

    /// The stream has told all that it has, and still an event of the table is missing.
    pub(crate) fn missing(&self, next: i64) -> Fault {
        let detail = format!("the stream goes on at position {next}, and {} was the last relayed one", self.last);
        Fault::new(&EVENTS_MISSING, detail)
    }

    pub(crate) fn head_is_missing(&self) -> Fault {
        self.missing(self.head + 1)
    }
}

#[cfg(test)]
mod tests {
    use kernel::{EventId, Timestamp};

    use super::*;

    fn event(position: i64) -> EventRecord {
        EventRecord {
            position,
            id: EventId::from_bytes([0; 16]),
            aggregate: "test".to_owned(),
            subject: "a".to_owned(),
            event_type: "tests.happened.v1".to_owned(),
            payload: "{}".to_owned(),
            time: Timestamp::from_micros(0),
            actor: "tester".to_owned(),
            causation_id: None,
            correlation_id: None,
        }
    }

    fn admitted(sequence: &mut Sequence<u64>, positions: &[i64]) -> Result<Vec<i64>> {
        let mut batch = Batch::default();
        positions.iter().try_for_each(|&position| sequence.admit(event(position), &mut batch))?;
        Ok(batch.events.iter().map(|event| event.position).collect())
    }

    #[test]
    fn old_events_are_skipped_and_a_gap_is_a_fault() {
        let mut sequence = Sequence::new(4, 0, 0);
        assert_eq!(admitted(&mut sequence, &[3, 4, 5, 6]).unwrap(), [5, 6]);
        assert_eq!(admitted(&mut sequence, &[5, 6, 7]).unwrap(), [7]);
        let fault = admitted(&mut sequence, &[9]).unwrap_err();
        assert!(crate::must_catch_up(&fault) && !crate::must_set_up(&fault), "{fault}");
    }

    #[test]
    fn a_place_is_confirmed_when_all_before_it_is_acknowledged() {
        let mut sequence = Sequence::new(0, 0, 0);
        sequence.close(5);
        assert_eq!(*sequence.confirmed(), 5, "nothing is open");
        admitted(&mut sequence, &[1, 2]).unwrap();
        sequence.close(10);
        admitted(&mut sequence, &[3]).unwrap();
        sequence.close(20);
        sequence.close(30);
        assert!(!sequence.acknowledge(1), "half a transaction");
        assert_eq!(*sequence.confirmed(), 5);
        assert!(sequence.acknowledge(2));
        assert_eq!(*sequence.confirmed(), 10);
        assert!(sequence.acknowledge(99), "more than was handed out counts as all of it");
        assert_eq!(*sequence.confirmed(), 30);
        sequence.close(40);
        assert_eq!(*sequence.confirmed(), 40);
        assert_eq!(admitted(&mut sequence, &[4]).unwrap(), [4]);
        sequence.close(50);
        assert_eq!(*sequence.confirmed(), 40, "what was said before event 4 does not count for it");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sequence = Sequence::new(0, 0, 0);
        let all: Vec<i64> = (1..=10_000).collect();
        for position in &all {
            admitted(&mut sequence, &[*position]).unwrap();
            sequence.close(u64::try_from(*position).unwrap());
        }
        assert_eq!(sequence.open.len(), OPEN_PLACES);
        sequence.acknowledge(9_999);
        assert_eq!(*sequence.confirmed(), 4_095);
        sequence.acknowledge(10_000);
        assert_eq!(*sequence.confirmed(), 10_000);
    }
}
