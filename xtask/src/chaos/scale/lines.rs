//! What the relay has written, read like by any other reader of a growing file: every position once, in order.

use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

/// How far the file was read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: u64,
    /// The last position.
    pub(super) position: u64,
}

impl Lines {
    /// Reads on to the end of the last whole line.
    ///
    /// # Errors
    /// When a position is missing, doubled or out of order.
    pub(super) fn pull(&mut self, path: &Path) -> Result<()> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        ensure!(file.metadata()?.len() >= self.bytes, "the file has become shorter than what was read of it");
        file.seek(SeekFrom::Start(self.bytes))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            let next = self.position + 1;
            let text = String::from_utf8_lossy(&line);
            let found = sequence(&text);
            ensure!(found == Some(next), "position {next} should come in the file, and there is {found:?}");
            self.position = next;
            self.bytes += line.len() as u64;
            line.clear();
        }
        Ok(())
    }
}

/// The event's position, without reading all of its line.
fn sequence(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"sequence\":\"")?;
    rest.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_is_read_on_and_a_doubled_line_is_found() {
        let path = std::env::temp_dir().join(format!("alpes-lines-{}", std::process::id()));
        let line = |position: u64| format!("{{\"id\":\"x\",\"sequence\":\"{position}\"}}\n");
        let mut lines = Lines::default();
        std::fs::write(&path, [line(1), line(2), "{\"id\"".to_owned()].concat()).unwrap();
        lines.pull(&path).unwrap();
        assert_eq!(lines.position, 2);
        std::fs::write(&path, [1, 2, 3].map(line).concat()).unwrap();
        lines.pull(&path).unwrap();
        assert_eq!(lines.position, 3);
        std::fs::write(&path, [1, 2, 3, 3].map(line).concat()).unwrap();
        assert!(lines.pull(&path).unwrap_err().to_string().starts_with("position 4 should come"));
        std::fs::remove_file(path).unwrap();
    }
}
