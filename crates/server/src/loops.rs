//! The loops of a process, each on a thread of its own: they drive workers, committers and relays a step at a time, wait,
//! and go on after faults. They end when they are told to stop, after what is under way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log_pulsar::Subscription;
use platform::bridge::Inlet;
use platform::{Db, Relay, Step};

use crate::duties::Duties;
use crate::outside::Lookout;
use crate::serve::Told;
use crate::worker::Worker;

/// Records what intake hands over.
pub(crate) fn commit(db: &Db, mut committer: web::Committer, stop: &AtomicBool) {
    loop {
        let committed = committer.step(db, Duration::from_millis(100));
        if committed == 0 && stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// The timers are looked at this often.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// How long reactions rest after a round while intake waits for the writer.
const YIELD_TO_INTAKE: Duration = Duration::from_millis(10);
/// A reaction's transaction aims at this, so that intake never waits long for the writer.
const SLICE_AIM: Duration = Duration::from_millis(5);

/// Reacts and looks at the time, as far as the leases of this process go.
#[expect(clippy::disallowed_methods, reason = "the loop measures how long a slice takes")]
pub(crate) fn react(db: &Db, mut worker: Worker, mut duties: Option<Duties>, told: &Told, stop: &AtomicBool) {
    let mut tended = std::time::Instant::now().checked_sub(TEND_EVERY);
    let mut pause = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let head = db.head();
        let outcome = renew(db, &mut worker, duties.as_mut())
            .and_then(|()| worker.react_within(db, SLICE_AIM))
            .and_then(|moved| {
                told.tell(&worker.positions());
                let due = tended.is_none_or(|tended| tended.elapsed() >= TEND_EVERY);
                let tended_something = due && worker.tend(db)?;
                if due && !tended_something {
                    tended = Some(std::time::Instant::now());
                }
                Ok(moved || tended_something)
            });
        match outcome {
            Ok(true) => {
                pause = Duration::ZERO;
                // Intake first: while it keeps the writer busy, reactions leave it the processors too.
                if db.is_front_waiting() {
                    std::thread::sleep(YIELD_TO_INTAKE);
                }
            }
            Ok(false) => {
                pause = Duration::ZERO;
                db.wait_past(head, TEND_EVERY);
            }
            Err(fault) => rest(&mut pause, &fault, "reactions"),
        }
    }
    if let Some(duties) = duties {
        duties.release(db);
    }
}

fn renew(db: &Db, worker: &mut Worker, duties: Option<&mut Duties>) -> kernel::Result<()> {
    let Some(duties) = duties else { return Ok(()) };
    if let Some(held) = duties.renew(db, |tx| worker.note(tx))? {
        worker.hold(&held);
    }
    Ok(())
}

/// Waits longer with every fault in a row.
#[expect(clippy::disallowed_methods, reason = "a loop waits before it tries again")]
fn rest(pause: &mut Duration, fault: &kernel::Fault, who: &str) {
    *pause = (*pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
    tracing::warn!(%fault, ?pause, "{who} wait and try again");
    std::thread::sleep(*pause);
}

/// How long a relay waits for events before it renews its lease.
const RELAY_WAITS: Duration = Duration::from_millis(100);

/// Takes the log to one sink, while this process holds its lease.
#[expect(clippy::disallowed_methods, reason = "the loop waits for a lease")]
pub(crate) fn relay(db: &Db, mut relay: Relay, mut duties: Duties, stop: &AtomicBool) {
    let mut pause = Duration::ZERO;
    let who = format!("{} and what waits for it", relay.name());
    while !stop.load(Ordering::SeqCst) {
        let renewed = duties.renew(db, |_| Ok(())).map(|held| {
            if let Some(held) = held {
                relay.fence = held.into_iter().next();
            }
        });
        let outcome = match relay.fence {
            Some(_) => renewed.and_then(|()| relay.step(db, RELAY_WAITS)),
            None => renewed.map(|()| {
                std::thread::sleep(RELAY_WAITS);
                Step::Idle
            }),
        };
        match outcome {
            Ok(_) => pause = Duration::ZERO,
            Err(fault) => rest(&mut pause, &fault, &who),
        }
    }
    duties.release(db);
}

/// Takes commands in from a broker. Several processes may: each key is with one of them at a time.
pub(crate) fn take_in<C: Clone>(db: &Db, mut subscription: Subscription, inlet: &Inlet<C>, stop: &AtomicBool) {
    let mut pause = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        match subscription.feed(db, inlet) {
            Ok(_) => pause = Duration::ZERO,
            Err(fault) => rest(&mut pause, &fault, "commands from the broker"),
        }
    }
    subscription.close();
}

/// How often a shared log is looked at while it moves, and while it stands still.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(20)];

/// Looks at how far a shared log and its consumers have come.
#[expect(clippy::disallowed_methods, reason = "the loop waits between looks")]
pub(crate) fn watch(db: &Db, told: &Told, stop: &AtomicBool) {
    let mut pause = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let before = (db.head(), told.positions());
        let looked = db.look_at_head().and_then(|_| db.read(platform::consumer::positions));
        match looked {
            Ok(stored) => {
                pause = Duration::ZERO;
                let known =
                    |name: &str| stored.iter().find(|(stored, _)| stored == name).map(|&(_, position)| position);
                let positions: Vec<(&'static str, i64)> =
                    before.1.iter().filter_map(|&(name, _)| Some((name, known(name)?))).collect();
                told.tell(&positions);
                let moved = before != (db.head(), told.positions());
                std::thread::sleep(if moved { LOOK_EVERY[0] } else { LOOK_EVERY[1] });
            }
            Err(fault) => rest(&mut pause, &fault, "those who watch the log"),
        }
    }
}

/// How often slots and backlogs are looked at, and how often the loop looks whether it shall stop meanwhile.
const LOOK_OUTSIDE_EVERY: Duration = Duration::from_secs(15);
/// The second look comes soon: at the first one nobody was there to be told, and streams were not open yet.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
const NOD: Duration = Duration::from_millis(250);
/// The alarm that something cannot be looked at.
const UNSEEN: &str = "unseen";

/// Looks at what the database and the broker keep for readers; what somebody should see to is logged when it begins.
#[expect(clippy::disallowed_methods, reason = "the loop waits between looks")]
pub(crate) fn look_outside(db: &Db, lookout: &Lookout, told: &Told, stop: &AtomicBool) {
    let mut known = BTreeSet::new();
    let mut rest = LOOK_AGAIN_AFTER;
    while !stop.load(Ordering::SeqCst) {
        let outside = lookout.look(db.now());
        known = warn_of(&outside, &known);
        told.tell_outside(outside);
        let began = std::time::Instant::now();
        while began.elapsed() < rest && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(NOD);
        }
        rest = LOOK_OUTSIDE_EVERY;
    }
}

/// Logs what was no alarm yet, and what is none any more; answers what is one now.
fn warn_of(outside: &web::Outside, known: &BTreeSet<String>) -> BTreeSet<String> {
    let alarms = outside.alarms();
    for (subject, alarm) in alarms.iter().filter(|(subject, _)| !known.contains(subject)) {
        tracing::warn!(subject, alarm, "alarm: see docs/operations.md, \"What each alarm means\"");
    }
    let mut now: BTreeSet<String> = alarms.into_iter().map(|(subject, _)| subject).collect();
    if !outside.unseen.is_empty() {
        now.insert(UNSEEN.to_owned());
        if !known.contains(UNSEEN) {
            tracing::warn!(unseen = outside.unseen.join("; "), "alarm: slots or backlogs cannot be looked at");
        }
    }
    known.difference(&now).for_each(|subject| tracing::info!(subject, "the alarm is over"));
    now
}

/// Moves the write-ahead log into the database file.
#[expect(clippy::disallowed_methods, reason = "the loop waits between checkpoints")]
pub(crate) fn checkpoint(db: &Db, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        if let Err(fault) = db.checkpoint() {
            tracing::warn!(%fault, "a checkpoint failed and is tried again");
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
