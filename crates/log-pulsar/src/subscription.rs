//! A subscription: messages of one or several topics, at least once, in the order of each key. What a message does is
//! decided by a function that commits in the database; a message is acknowledged after that function has returned, so a
//! crash in between brings it again (`platform::inbox` makes its effect happen once).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kernel::{Fault, Kind, Result};
use platform::Db;
use platform::bridge::{Incoming, Inlet};

use crate::document;
use crate::faults;
use crate::held::{Held, Keyed as _};
use crate::inbound::{Inbound, Reading};
use crate::letters;
use crate::link::LARGEST_PAYLOAD_BYTES;
use crate::message;
use crate::options::Options;
use crate::receiver::{Receiver, Subscribing};
use crate::watchdog::Watchdog;

/// What a subscription is called, and how patient it is.
#[derive(Debug, Clone)]
pub struct SubscriptionOptions {
    /// Its name: the broker remembers by it what was acknowledged, so it never changes.
    pub name: String,
    /// Full names of topics, see [`Options::topic`].
    pub topics: Vec<String>,
    /// Only events of the published language reach the function; everything else becomes a dead letter with the reason.
    pub only_events: bool,
    /// A subscription that is new begins with the oldest message that the broker still has; otherwise with the next one.
    pub from_the_beginning: bool,
    /// The messages handed over at once, at most. As many wait in memory for each topic.
    pub slice: usize,
    /// How long one step waits for messages.
    pub wait: Duration,
    /// So many failures make a message a dead letter. With the delays below the default is decided after two seconds.
    pub attempts: u32,
    /// The delay after the first failure; it doubles with each one, up to ten seconds.
    pub first_delay: Duration,
    /// When nothing arrives for so long, the broker is asked whether there is something.
    pub silence: Duration,
}

impl SubscriptionOptions {
    /// The defaults for messages that are no events, to feed an inlet of this name with.
    pub fn raw(name: impl Into<String>, topics: Vec<String>) -> Self {
        Self { only_events: false, ..Self::new(name, topics) }
    }

    /// The defaults.
    pub fn new(name: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            name: name.into(),
            topics,
            only_events: true,
            from_the_beginning: true,
            slice: 512,
            wait: Duration::from_millis(500),
            attempts: 5,
            first_delay: Duration::from_millis(100),
            silence: Duration::from_secs(10),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// So many messages had their effect and were acknowledged.
    pub handled: usize,
    /// So many became dead letters.
    pub dead: usize,
    /// So many wait, because they or an earlier message of their key failed.
    pub held: usize,
}

/// While so many wait nothing more is fetched; the attempts are limited, so they do not wait for ever.
const MOST_HELD: usize = 10_000;
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Key_Shared: several processes may subscribe with the same name, and each key is with one of them at a time.
pub struct Subscription {
    options: Options,
    how: SubscriptionOptions,
    reading: Reading,
    receiver: Option<Receiver>,
    held: Held<Inbound>,
    watchdog: Watchdog,
}

/// Handles messages; answers those that it refuses, by their place, and why.
type Handle<'h> = &'h mut dyn FnMut(&[Inbound]) -> Result<Vec<(usize, Fault)>>;

/// What becomes of a slice while it is handled.
#[derive(Default)]
struct Turn {
    progress: Progress,
    /// Keys that failed, and when they are tried again.
    due: BTreeMap<String, Instant>,
    /// What must be tried again or waits behind it, in order.
    back: Vec<Inbound>,
}

#[expect(clippy::disallowed_methods, reason = "a driver adapter: delays between attempts are measured here")]
fn now() -> Instant {
    Instant::now()
}

impl Subscription {
    /// A subscription that is not connected yet: the first step connects, and so does the step after a failure. Fault:
    /// `broker_refused` when the options cannot be right.
    pub fn new(options: Options, how: SubscriptionOptions) -> Result<Self> {
        let topics = message::topics(&options)?;
        if how.topics.is_empty() || how.name.is_empty() || how.name.contains('/') || how.slice == 0 || how.attempts == 0
        {
            let what = "a subscription needs a name without slashes, a topic, a slice and an attempt";
            return Err(faults::refused(&options, what, "options of the subscription"));
        }
        let reading = Reading::new(topics, LARGEST_PAYLOAD_BYTES);
        let watchdog = Watchdog::new(how.silence);
        Ok(Self { options, how, reading, receiver: None, held: Held::new(), watchdog })
    }

    /// Fetches messages, or takes those that are due again, and hands them over in slices, each key in order. When
    /// `handle` fails a slice is halved until the failing message stands alone. A fault of kind `Unavailable` is nobody's
    /// fault: the messages stay and the fault is answered; any other one counts as a failed attempt, and one that calls
    /// the message itself wrong makes it a dead letter at once.
    ///
    /// Faults: `broker_unavailable`, `broker_refused`, and the unavailability that `handle` answered. The next step
    /// connects again if need be; the caller waits a moment before it.
    pub fn step(&mut self, mut handle: impl FnMut(&[Inbound]) -> Result<()>) -> Result<Progress> {
        self.judge(&mut |messages| handle(messages).map(|()| Vec::new()))
    }

    /// A step that takes messages in through `inlet`. Those that it refuses become dead letters at once, and nothing else is
    /// tried again for their sake. Faults: as of [`Self::step`].
    pub fn feed<C: Clone>(&mut self, db: &Db, inlet: &Inlet<C>) -> Result<Progress> {
        let origin = self.options.source.clone();
        self.judge(&mut |messages| {
            let messages: Vec<Incoming<'_>> = messages.iter().map(Inbound::incoming).collect();
            inlet.take(db, &origin, &messages)
        })
    }

    fn judge(&mut self, handle: Handle<'_>) -> Result<Progress> {
        let outcome = self.turn(handle);
        if outcome.as_ref().is_err_and(faults::is_ours) {
            self.disconnect();
        }
        outcome
    }

    /// Leaves the broker in order, when what is acknowledged has been sent. What was not acknowledged comes again to whoever
    /// subscribes next.
    pub fn close(mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.flush(&self.options, now);
        }
    }

    fn disconnect(&mut self) {
        self.receiver = None;
        self.held.clear();
    }

    fn turn(&mut self, handle: Handle<'_>) -> Result<Progress> {
        let mut turn = Turn::default();
        self.connect()?;
        let mut slice = self.held.take_due(now(), self.how.slice);
        // A fault here is the broker's: then everything that is not acknowledged comes again.
        let fresh = self.fetch(self.how.slice - slice.len(), !slice.is_empty())?;
        slice.extend(self.held.queue_up(fresh));
        let outcome = self.work(&mut turn, slice, handle);
        let back = std::mem::take(&mut turn.back);
        self.held.put_back(back, &turn.due, now());
        outcome?;
        self.bury_unreadable(&mut turn)?;
        Ok(Progress { held: self.held.count(), ..turn.progress })
    }

    fn connect(&mut self) -> Result<()> {
        if self.receiver.is_none() {
            let Self { how, .. } = self;
            let subscribing =
                Subscribing { name: &how.name, from_the_beginning: how.from_the_beginning, queue: how.slice };
            self.receiver = Some(Receiver::open(&self.options, &how.topics, &subscribing)?);
            self.watchdog.heard(now());
        }
        Ok(())
    }

    /// What has arrived, as far as there is room; waits when there is nothing else to do.
    fn fetch(&mut self, room: usize, busy: bool) -> Result<Vec<Inbound>> {
        let Some(receiver) = self.receiver.as_mut().filter(|_| room > 0) else { return Ok(Vec::new()) };
        let wait = if busy { Duration::ZERO } else { self.how.wait };
        let wait = self.held.next_due(now()).map_or(wait, |due| due.min(wait));
        if self.held.count() >= MOST_HELD {
            receiver.pause(wait);
            return Ok(Vec::new());
        }
        let fresh = receiver.receive(&self.options, room, wait, now)?;
        if fresh.is_empty() {
            let (names, waits) = (receiver.names(), self.held.count() + receiver.unreadable.count());
            self.watchdog.look(now(), &self.options, &self.how, &names, waits)?;
        } else {
            self.watchdog.heard(now());
        }
        Ok(fresh)
    }

    /// Reads the messages, sends what cannot be read to the dead letters, all at once, and hands over the others.
    fn work(&mut self, turn: &mut Turn, slice: Vec<Inbound>, handle: Handle<'_>) -> Result<()> {
        let (mut good, mut dead) = (Vec::with_capacity(slice.len()), Vec::new());
        for mut message in slice {
            let read = match message.unreadable {
                Some(reason) => Err(reason.to_owned()),
                None if self.how.only_events => self.read_event(&mut message)?,
                None => self.read_document(&mut message)?,
            };
            match read {
                Ok(()) => good.push(message),
                Err(reason) => dead.push((message, reason)),
            }
        }
        match self.bury(turn, dead) {
            Ok(()) => self.hand_over(turn, good, handle),
            Err(fault) => {
                turn.back.extend(good);
                Err(fault)
            }
        }
    }

    /// Reads the event, or answers why it is none; a fault of the broker is neither.
    fn read_event(&mut self, message: &mut Inbound) -> Result<Result<(), String>> {
        if message.event.is_some() {
            return Ok(Ok(()));
        }
        let written = match (&mut self.receiver, self.reading.is_avro(&message.topic)) {
            (Some(receiver), true) => receiver.schema(&self.options, message)?,
            _ => Ok(None),
        };
        let event = written.and_then(|written| self.reading.event(message, written));
        Ok(event.map(|event| message.event = Some(event)))
    }

    /// Reads what was written as Avro, or answers why it cannot be read. What was written otherwise stays as it is.
    fn read_document(&mut self, message: &mut Inbound) -> Result<Result<(), String>> {
        let Some(receiver) = self.receiver.as_mut().filter(|_| message.document.is_none()) else { return Ok(Ok(())) };
        let document = match receiver.schema(&self.options, message)? {
            Ok(written) => written.map(|schema| document::decode(schema, &message.payload)).transpose(),
            Err(reason) => Err(reason),
        };
        Ok(document.map(|document| message.document = document.map(|json| json.to_string().into_bytes())))
    }

    fn hand_over(&mut self, turn: &mut Turn, slice: Vec<Inbound>, handle: Handle<'_>) -> Result<()> {
        let (waiting, mut ready): (Vec<_>, Vec<_>) = slice.into_iter().partition(|m| turn.due.contains_key(m.key()));
        if ready.is_empty() {
            turn.back.extend(waiting);
            return Ok(());
        }
        let outcome = without_panic(|| handle(&ready));
        let fault = match outcome {
            Ok(refused) => {
                turn.back.extend(waiting);
                return self.done(turn, ready, refused);
            }
            Err(fault) => fault,
        };
        if fault.kind() == Kind::Unavailable {
            let again = now() + self.how.first_delay;
            turn.due.extend(ready.iter().map(|message| (message.key().to_owned(), again)));
            turn.back.extend(ready);
            turn.back.extend(waiting);
            return Err(fault);
        }
        if ready.len() > 1 {
            let later = ready.split_off(ready.len() / 2);
            let outcome = self.hand_over(turn, ready, handle);
            // After a fault the second half is not tried, but it must not get lost.
            let outcome = match outcome {
                Ok(()) => self.hand_over(turn, later, handle),
                Err(fault) => {
                    turn.back.extend(later);
                    Err(fault)
                }
            };
            turn.back.extend(waiting);
            return outcome;
        }
        let failed = ready.into_iter().try_for_each(|message| self.failed(turn, message, &fault));
        turn.back.extend(waiting);
        failed
    }

    /// Messages were handled, but for those that were refused: these are dead letters.
    fn done(&mut self, turn: &mut Turn, messages: Vec<Inbound>, refused: Vec<(usize, Fault)>) -> Result<()> {
        let mut reasons: BTreeMap<usize, Fault> = refused.into_iter().collect();
        let (mut good, mut dead) = (Vec::with_capacity(messages.len()), Vec::new());
        for (place, message) in messages.into_iter().enumerate() {
            match reasons.remove(&place) {
                Some(fault) => dead.push((message, fault.to_string())),
                None => good.push(message),
            }
        }
        turn.progress.handled += good.len();
        self.acknowledge(&good)?;
        self.bury(turn, dead)
    }

    /// A message failed alone: it is tried again later, or it is a dead letter.
    fn failed(&mut self, turn: &mut Turn, mut message: Inbound, fault: &Fault) -> Result<()> {
        let hopeless = matches!(fault.kind(), Kind::Malformed | Kind::Unprocessable | Kind::TooLarge);
        if hopeless || message.redeliveries + 1 >= self.how.attempts {
            return self.bury(turn, vec![(message, fault.to_string())]);
        }
        let delay = self.how.first_delay * 2_u32.saturating_pow(message.redeliveries.min(10));
        turn.due.insert(message.key().to_owned(), now() + delay.min(LONGEST_DELAY));
        message.redeliveries += 1;
        turn.back.push(message);
        Ok(())
    }

    /// Sends messages to the dead letters, with the reasons. After a fault they come again with the next connection.
    fn bury(&mut self, turn: &mut Turn, dead: Vec<(Inbound, String)>) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let Self { receiver, options, how, .. } = self;
        let receiver = receiver.as_mut().ok_or_else(|| faults::unavailable(options, "not connected", "no receiver"))?;
        for (message, reason) in &dead {
            let Inbound { topic, message_id, .. } = message;
            tracing::error!(subscription = how.name, topic, message = message_id, reason, "dead letter");
        }
        letters::send(&mut receiver.link, options, &how.name, &dead)?;
        turn.progress.dead += dead.len();
        let messages: Vec<Inbound> = dead.into_iter().map(|(message, _)| message).collect();
        self.acknowledge(&messages)
    }

    /// Looks for what the driver could not unpack. Without the administration it stays, and nothing else is the worse for it.
    fn bury_unreadable(&mut self, turn: &mut Turn) -> Result<()> {
        let Self { receiver: Some(receiver), held, .. } = self else { return Ok(()) };
        let waits = |ledger: u64, entry: u64| held.waits(&format!("{ledger}:{entry}:"));
        let found = match receiver.unreadable.find(now(), &self.options, &self.how.name, waits) {
            Ok(found) => found,
            Err(fault) => {
                tracing::warn!(subscription = self.how.name, %fault, "messages that cannot be unpacked stay on the broker");
                return Ok(());
            }
        };
        let topics: Vec<String> = found.iter().map(|message| message.topic.clone()).collect();
        let reason = "it cannot be unpacked: publish it without compression, or with LZ4, ZLIB or ZSTD";
        self.bury(turn, found.into_iter().map(|message| (message, reason.to_owned())).collect())?;
        if let Some(receiver) = &mut self.receiver {
            topics.iter().for_each(|topic| receiver.unreadable.done(topic));
        }
        Ok(())
    }

    fn acknowledge(&mut self, messages: &[Inbound]) -> Result<()> {
        match &mut self.receiver {
            Some(receiver) => receiver.acknowledge(&self.options, messages),
            None => Ok(()),
        }
    }
}

/// A panic is a fault of the message, like any other.
fn without_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Fault::internal(format!("panic: {}", words.unwrap_or("without words"))))
    })
}
