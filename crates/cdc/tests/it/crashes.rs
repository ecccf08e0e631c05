//! Connections and processes that end in the middle: nothing is lost, and nothing comes again that was acknowledged.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cdc::Stream;
use kernel::EventRecord;
use platform::{Lane, Location};

use crate::world::{PATIENCE, World, event, now, on_each, open, pause, positions};

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A relay whose sink is a list: what it holds is durable, and acknowledged with the next turn.
#[derive(Default)]
struct Relay {
    sunk: Vec<EventRecord>,
    token: String,
    openings: u32,
}

impl Relay {
    /// Reads until `head` is sunk, over as many connections as it takes; acknowledges now and then only.
    fn run(&mut self, world: &World, head: impl Fn() -> Option<i64>, dice: &mut Dice) {
        let deadline = now() + 4 * PATIENCE;
        while head().is_none_or(|head| self.last() < head) {
            assert!(now() < deadline, "stands at {} of {:?}", self.last(), head());
            let (location, name) = (&world.location, &world.name);
            self.openings += 1;
            match Stream::open(location, name, self.last(), Some(&self.token)) {
                Ok(stream) => self.one_connection(stream, &head, dice, world),
                Err(fault) => assert_eq!(fault.code(), "unavailable", "{fault}"),
            }
            pause(Duration::from_millis(20));
        }
    }

    fn one_connection(&mut self, mut stream: Stream, head: &impl Fn() -> Option<i64>, dice: &mut Dice, world: &World) {
        while head().is_none_or(|head| self.last() < head) {
            match stream.next(Duration::from_millis(100)) {
                Ok(events) => self.sunk.extend(events),
                Err(fault) => {
                    assert_eq!(fault.code(), "unavailable", "{fault}");
                    return;
                }
            }
            if dice.below(3) == 0 && stream.acknowledge(self.last()).is_ok() {
                self.token = stream.resume_token();
            }
            match dice.below(60) {
                0 => return,
                1 => world.kill_reader(),
                _ => {}
            }
        }
    }

    fn last(&self) -> i64 {
        self.sunk.last().map_or(0, |event| event.position)
    }
}

#[test]
fn eight_writers_and_killed_connections() {
    on_each(|world| {
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        let token = cdc::setup(&world.location, &world.name).unwrap();
        let (writing, mut relay) = (AtomicBool::new(true), Relay { token, ..Relay::default() });
        let head = || (!writing.load(Ordering::SeqCst)).then(|| world.table().last().map_or(0, |event| event.position));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || write(&world.location, writer))).collect();
            scope.spawn(|| {
                for _ in 0..15 {
                    pause(Duration::from_millis(200));
                    world.kill_connections();
                }
                writers.into_iter().for_each(|writer| writer.join().unwrap());
                writing.store(false, Ordering::SeqCst);
            });
            relay.run(world, head, &mut Dice(seed));
        });
        let table = world.table();
        println!("{} events over {} connections", table.len(), relay.openings);
        assert!(relay.openings > 1 && table.len() > 500);
        assert!(relay.sunk == table, "{:?}", first_difference(&relay.sunk, &table));
    });
}

/// A process's worth of writing: small transactions, some of which fail when their connection is killed.
fn write(location: &Location, writer: u32) {
    let db = open(location);
    let mut dice = Dice(writer.into());
    let end = now() + Duration::from_secs(4);
    while now() < end {
        let events: Vec<_> = (0..=dice.below(8)).map(|n| event(&format!("w{writer}"), &n.to_string())).collect();
        let _ = db.write("test", Lane::Front, "tester", |tx| tx.publish(&events));
    }
}

fn first_difference(left: &[EventRecord], right: &[EventRecord]) -> Option<(usize, Vec<i64>)> {
    let index = left.iter().zip(right).position(|(left, right)| left != right)?;
    Some((index, positions(&left[index..left.len().min(index + 5)])))
}

/// Not a test of its own: the process that the next test kills. It writes down each position durably, then acknowledges.
#[test]
fn reader_process() {
    let Ok(task) = std::env::var("ALPES_TEST_READER") else { return };
    let [url, name, journal]: [&str; 3] = task.split('|').collect::<Vec<_>>().try_into().unwrap();
    let (after, token) = last_of(Path::new(journal));
    let location = Location::parse(url, Path::new(".")).unwrap();
    let mut file = std::fs::File::options().append(true).open(journal).unwrap();
    let Ok(mut stream) = Stream::open(&location, name, after, Some(&token)) else { return };
    loop {
        let events = stream.next(Duration::from_millis(200)).unwrap();
        let Some(last) = events.last().map(|event| event.position) else { continue };
        let lines: String =
            positions(&events).iter().map(|position| format!("{position} {}\n", stream.resume_token())).collect();
        file.write_all(lines.as_bytes()).unwrap();
        file.sync_data().unwrap();
        stream.acknowledge(last).unwrap();
    }
}

/// The last whole line of a journal: position and token.
fn last_of(journal: &Path) -> (i64, String) {
    let text = std::fs::read_to_string(journal).unwrap();
    let line = text.lines().last().unwrap();
    let (position, token) = line.split_once(' ').unwrap();
    (position.parse().unwrap(), token.to_owned())
}

#[test]
fn a_reader_that_is_killed_again_and_again_misses_nothing() {
    on_each(|world| {
        let token = cdc::setup(&world.location, &world.name).unwrap();
        let journal = std::env::temp_dir().join(format!("alpes-{}.journal", world.name));
        std::fs::write(&journal, format!("0 {token}\n")).unwrap();
        let mut dice = Dice(u64::from(std::process::id()));
        for round in 0..12 {
            let mut reader = start_reader(world, &journal);
            for n in 0..dice.below(60) + 5 {
                world.publish(&vec![event("a", &format!("{round}/{n}")); usize::try_from(dice.below(9)).unwrap() + 1]);
            }
            pause(Duration::from_millis(dice.below(80)));
            reader.kill().unwrap();
            reader.wait().unwrap();
        }
        let (mut reader, deadline, head) = (start_reader(world, &journal), now() + PATIENCE, world.db().head());
        while last_of(&journal).0 < head && now() < deadline {
            pause(Duration::from_millis(100));
            if reader.try_wait().unwrap().is_some() {
                reader = start_reader(world, &journal);
            }
        }
        let _ = (reader.kill(), reader.wait());
        let text = std::fs::read_to_string(&journal).unwrap();
        let found: Vec<i64> = text.lines().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
        assert_eq!(found, (0..=head).collect::<Vec<_>>(), "each position once, because the journal is the cursor");
        std::fs::remove_file(journal).unwrap();
    });
}

fn start_reader(world: &World, journal: &Path) -> Child {
    let task = format!("{}|{}|{}", world.url, world.name, journal.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crashes::reader_process", "--nocapture"]).env("ALPES_TEST_READER", task);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}
