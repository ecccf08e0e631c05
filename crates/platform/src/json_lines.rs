//! A sink into a file: one CloudEvent per line, synced before the relay goes on. What a crash left half-written is cut off,
//! and what the file has already is not written again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use kernel::{CloudEvent, EventRecord, Fault, Result, problems};

use crate::sink::Sink;

/// Appends events to a file.
pub struct JsonLines {
    path: PathBuf,
    file: File,
    /// The last position that the file has.
    last: i64,
}

impl JsonLines {
    /// Opens the file, or creates it. Fault: `unavailable`, also when its last line is no event.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let unavailable =
            |error: &dyn std::fmt::Display| Fault::new(&problems::UNAVAILABLE, format!("the file {shown}: {error}"));
        let file = OpenOptions::new().create(true).read(true).append(true).open(path);
        let mut file = file.map_err(|error| unavailable(&error))?;
        let (length, line) = last_line(&mut file).map_err(|error| unavailable(&error))?;
        let last = match line {
            None => 0,
            Some(line) => position(&line).ok_or_else(|| unavailable(&"its last line is not an event of ours"))?,
        };
        // Only now: what is no file of ours stays as it is.
        file.set_len(length).map_err(|error| unavailable(&error))?;
        Ok(Self { path: path.to_owned(), file, last })
    }
}

/// The length up to the end of the last whole line, and that line.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<String>)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut length, mut last) = (0, None);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            length += u64::try_from(line.len()).unwrap_or(0);
            last = Some(String::from_utf8_lossy(&line).into_owned());
        }
        line.clear();
    }
    Ok((length, last))
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
        let mut lines = Vec::new();
        let mut last = self.last;
        for event in events.iter().filter(|event| event.position > self.last) {
            last = event.position;
            serde_json::to_writer(&mut lines, &CloudEvent::of(event.clone())?).map_err(Fault::internal)?;
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // How much of it is there is found out by opening the file again.
            let detail = format!("the file {} cannot be written: {error}", self.path.display());
            *self = Self::open(&self.path)?;
            return Err(Fault::new(&problems::UNAVAILABLE, detail));
        }
        self.last = last;
        Ok(())
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
    fn a_file_of_somebody_else_is_refused() {
        let directory = Directory::new();
        let path = directory.0.join("notes.txt");
        std::fs::write(&path, "milk\nbread\n").unwrap();
        assert!(JsonLines::open(&path).err().unwrap().detail().contains("not an event"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "milk\nbread\n");
    }
}
