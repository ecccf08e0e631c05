//! Keys that wait: a message that failed is tried again later, and the later messages of its key wait behind it, in order,
//! while other keys go on. It must not know brokers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// What can wait.
pub(crate) trait Keyed {
    /// What orders it.
    fn key(&self) -> &str;
    /// What tells it from all others.
    fn id(&self) -> &str;
}

pub(crate) struct Held<M> {
    keys: BTreeMap<String, Waiting<M>>,
    ids: BTreeSet<String>,
}

struct Waiting<M> {
    messages: VecDeque<M>,
    due: Instant,
}

impl<M: Keyed> Held<M> {
    pub(crate) const fn new() -> Self {
        Self { keys: BTreeMap::new(), ids: BTreeSet::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    /// How long until the next key is due; none when nothing waits.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Duration> {
        self.keys.values().map(|waiting| waiting.due.saturating_duration_since(now)).min()
    }

    /// Takes the messages of the keys that are due, at most `limit`, in order within each key. What remains of a key
    /// stays, so that fresh messages of it wait.
    pub(crate) fn take_due(&mut self, now: Instant, limit: usize) -> Vec<M> {
        let mut taken = Vec::new();
        for waiting in self.keys.values_mut().filter(|waiting| waiting.due <= now) {
            let count = waiting.messages.len().min(limit - taken.len());
            taken.extend(waiting.messages.drain(..count));
        }
        self.keys.retain(|_, waiting| !waiting.messages.is_empty());
        taken.iter().for_each(|message| {
            self.ids.remove(message.id());
        });
        taken
    }

    /// Answers those of `fresh` that need not wait; the others queue up behind their keys. A message that waits already
    /// came again after a reconnection and is dropped.
    pub(crate) fn queue_up(&mut self, fresh: Vec<M>) -> Vec<M> {
        let mut ready = Vec::with_capacity(fresh.len());
        for message in fresh {
            if self.ids.contains(message.id()) {
                continue;
            }
            match self.keys.get_mut(message.key()) {
                Some(waiting) => {
                    self.ids.insert(message.id().to_owned());
                    waiting.messages.push_back(message);
                }
                None => ready.push(message),
            }
        }
        ready
    }

    /// Puts messages back that were taken or ready in this step, in their order, before what waits already. `due` says when
    /// each key is tried again.
    pub(crate) fn put_back(&mut self, messages: Vec<M>, due: &BTreeMap<String, Instant>, now: Instant) {
        for message in messages.into_iter().rev() {
            let key = message.key().to_owned();
            self.ids.insert(message.id().to_owned());
            let due = due.get(&key).copied().unwrap_or(now);
            let waiting = self.keys.entry(key).or_insert_with(|| Waiting { messages: VecDeque::new(), due });
            waiting.due = due;
            waiting.messages.push_front(message);
        }
    }

    /// Whether something with an id that begins like this waits.
    pub(crate) fn waits(&self, beginning: &str) -> bool {
        self.ids.range(beginning.to_owned()..).next().is_some_and(|id| id.starts_with(beginning))
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.ids.clear();
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from; nothing waits for it")]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Note(&'static str);

    impl Keyed for Note {
        fn key(&self) -> &str {
            &self.0[..1]
        }
        fn id(&self) -> &str {
            self.0
        }
    }

    fn notes(ids: &[&'static str]) -> Vec<Note> {
        ids.iter().map(|id| Note(id)).collect()
    }

    #[test]
    fn a_failing_key_holds_back_its_own_messages_only_and_keeps_their_order() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut held = Held::new();
        assert_eq!(held.queue_up(notes(&["a1", "b1", "a2"])), notes(&["a1", "b1", "a2"]));
        held.put_back(notes(&["a1", "a2"]), &BTreeMap::from([("a".to_owned(), later)]), now);
        assert_eq!(held.queue_up(notes(&["a3", "b2", "a2"])), notes(&["b2"]), "a2 came again");
        assert_eq!((held.count(), held.next_due(now)), (3, Some(Duration::from_secs(1))));
        assert_eq!(held.take_due(now, 10), notes(&[]));
        assert_eq!(held.take_due(later, 2), notes(&["a1", "a2"]));
        assert_eq!(held.queue_up(notes(&["a4"])), notes(&[]), "a3 still waits");
        held.put_back(notes(&["a2"]), &BTreeMap::new(), later);
        assert_eq!(held.take_due(later, 10), notes(&["a2", "a3", "a4"]));
        assert_eq!((held.count(), held.next_due(now)), (0, None));
        assert_eq!(held.queue_up(notes(&["a5"])), notes(&["a5"]));
    }

    #[test]
    fn the_limit_is_kept_over_keys() {
        let now = Instant::now();
        let mut held = Held::new();
        held.put_back(notes(&["a1", "b1", "b2", "c1"]), &BTreeMap::new(), now);
        assert_eq!(held.take_due(now, 2), notes(&["a1", "b1"]));
        assert_eq!(held.take_due(now, 2), notes(&["b2", "c1"]));
        held.put_back(notes(&["a1"]), &BTreeMap::new(), now);
        held.clear();
        assert_eq!((held.count(), held.queue_up(notes(&["a1"])).len()), (0, 1));
    }
}
