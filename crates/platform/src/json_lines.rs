//! A sink into a file: one CloudEvent per line, synced before the relay goes on. What a crash left half-written is cut off,
//! and what the file has already is not written again, whichever process wrote it: the file is locked while it is written,
//! and whoever finds it longer than he left it reads on first. So one who froze before he wrote does no harm when he wakes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use kernel::{CloudEvent, EventRecord, Fault, Result, problems};

use crate::sink::Sink;

/// Appends events to a file.
pub struct JsonLines {
    path: PathBuf,
    file: File,
    /// The bytes of the file up to the last line that is known.
    length: u64,
    /// The position in that line; 0 when there is none.
    last: i64,
}

impl JsonLines {
    /// Opens the file, or creates it. Fault: `unavailable`, also when its last line is no event.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path);
        let file = file.map_err(|error| unavailable(path, &error))?;
        let mut lines = Self { path: path.to_owned(), file, length: 0, last: 0 };
        // Nothing is cut off here: another process may be about to end its line.
        lines.read_on()?;
        Ok(lines)
    }

    /// Reads whole lines from where this process knows the file.
    fn read_on(&mut self) -> Result<()> {
        let Self { path, file, length, last } = self;
        let (bytes, line) = last_line(file, *length).map_err(|error| unavailable(path, &error))?;
        if let Some(line) = line {
            *last = position(&line).ok_or_else(|| unavailable(path, &"its last line is not an event of ours"))?;
        }
        *length += bytes;
        Ok(())
    }

    /// Writes what the file does not have yet. The file is locked.
    fn append(&mut self, events: &[EventRecord]) -> Result<()> {
        let unavailable = |error: std::io::Error| unavailable(&self.path, &error);
        if self.file.metadata().map_err(unavailable)?.len() != self.length {
            self.read_on()?;
            self.file.set_len(self.length).map_err(|error| self::unavailable(&self.path, &error))?;
        }
        let mut lines = Vec::new();
        let mut last = self.last;
        for event in events.iter().filter(|event| event.position > self.last) {
            last = event.position;
            serde_json::to_writer(&mut lines, &CloudEvent::of(event.clone())?).map_err(Fault::internal)?;
            lines.push(b'\n');
        }
        // When that fails, the file is longer than is known: the next attempt finds out how much of it is there.
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| self::unavailable(&self.path, &error))?;
        self.length += u64::try_from(lines.len()).unwrap_or(0);
        self.last = last;
        Ok(())
    }
}

fn unavailable(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(&problems::UNAVAILABLE, format!("the file {}: {error}", path.display()))
}

/// The bytes of the whole lines after `from`, and the last of them.
fn last_line(file: &mut File, from: u64) -> std::io::Result<(u64, Option<String>)> {
    file.seek(SeekFrom::Start(from))?;
    let (mut bytes, mut last) = (0, None);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            bytes += u64::try_from(line.len()).unwrap_or(0);
            last = Some(String::from_utf8_lossy(&line).into_owned());
        }
        line.clear();
    }
    Ok((bytes, last))
}

fn position(line: &str) -> Option<i64> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    event.get("sequence")?.as_str()?.parse().ok()
}

impl Sink for JsonLines {
    fn name(&self) -> &str {
        "file"
    }

    fn deliver(&mut self, events: &[EventRecord]) -> Result<()> {
        self.file
            .try_lock()
            .map_err(|error| unavailable(&self.path, &format!("another process writes it: {error}")))?;
        let outcome = self.append(events);
        let unlocked = self.file.unlock().map_err(|error| unavailable(&self.path, &error));
        outcome.and(unlocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Directory, event, in_memory, publish};
    use crate::{Polling, Relay, Step};

    #[test]
    fn a_file_has_every_event_once_also_after_a_crash_in_the_middle_of_a_line() {
        let directory = Directory::new();
        let path = directory.0.join("events.jsonl");
        let db = in_memory();
        let relay = || {
            let mut relay = Relay::new(Box::new(Polling), Box::new(JsonLines::open(&path).unwrap()));
            while relay.step(&db, std::time::Duration::ZERO).unwrap() != Step::Idle {}
        };
        publish(&db, &[event("a"), event("b")]);
        relay();
        let whole = std::fs::read_to_string(&path).unwrap();
        let mut torn = whole.clone();
        torn.push_str("{\"specversion\":\"1.0\",\"seq");
        std::fs::write(&path, torn).unwrap();
        // The cursor is lost too: everything comes again.
        db.write("test", crate::Lane::Back, "system", |tx| crate::consumer::advance(tx, "relay:file", 0)).unwrap();
        publish(&db, &[event("c")]);
        relay();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&whole));
        let positions: Vec<i64> = text.lines().map(|line| position(line).unwrap()).collect();
        assert_eq!(positions, [1, 2, 3]);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["type"], &first["subject"]), (&"tests.happened.v1".into(), &"a".into()));
        assert_eq!(first["data"]["subject"], "a");
    }

    #[test]
    fn two_processes_never_write_an_event_twice_nor_leave_a_torn_line() {
        let directory = Directory::new();
        let path = directory.0.join("events.jsonl");
        let db = in_memory();
        publish(&db, &[event("a"), event("b"), event("c"), event("d")]);
        let events = db.read(|reader| crate::event_log::range(reader, 0, 4, &[], 10)).unwrap();
        let (mut first, mut second) = (JsonLines::open(&path).unwrap(), JsonLines::open(&path).unwrap());
        first.deliver(&events[..1]).unwrap();
        // The first froze before it wrote b and c; the second has gone on.
        second.deliver(&events[1..2]).unwrap();
        first.deliver(&events[1..3]).unwrap();
        // Killed in the middle of a line; the second has had the file open all the time.
        first.file.write_all(b"{\"specversion\":\"1.0\",\"seq").unwrap();
        drop(first);
        second.deliver(&events[2..]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let positions: Vec<i64> = text.lines().map(|line| position(line).unwrap()).collect();
        assert_eq!(positions, [1, 2, 3, 4]);
        let held = JsonLines::open(&path).unwrap();
        held.file.lock().unwrap();
        assert_eq!(
            second.deliver(&events).unwrap_err().code(),
            "unavailable",
            "it does not wait for one who is frozen"
        );
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let directory = Directory::new();
        let path = directory.0.join("notes.txt");
        std::fs::write(&path, "milk\nbread\n").unwrap();
        assert!(JsonLines::open(&path).err().unwrap().detail().contains("not an event"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "milk\nbread\n");
    }
}
