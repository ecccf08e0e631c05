//! The client's own memory of what was acknowledged: a file, synced before anything in it counts.

use super::client::Kind;
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// What was acknowledged: kind and natural key to the id in the answer.
pub(super) type Acknowledged = BTreeMap<(Kind, String), String>;

enum Message {
    Line(String),
    /// Asks for an answer once everything before it is synced.
    Settle(mpsc::Sender<()>),
}

/// Appends to the file on a thread of its own, many lines per sync; the load does not wait for it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    send: mpsc::Sender<Message>,
}

impl Journal {
    /// An empty journal.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let (send, messages) = mpsc::channel();
        std::thread::spawn(move || write(file, &messages));
        Ok(Self { path: path.to_owned(), send })
    }

    /// Notes one acknowledged fact.
    pub(super) fn note(&self, kind: Kind, key: &str, id: &str) {
        // A writer that has failed is found by `acknowledged`, whose question it cannot answer.
        self.send.send(Message::Line(format!("{} {key} {id}\n", kind.name()))).ok();
    }

    /// What is in the file, after waiting until everything noted so far is synced.
    ///
    /// # Errors
    /// When writing failed, or one fact was acknowledged with two ids.
    pub(super) fn acknowledged(&self) -> Result<Acknowledged> {
        let (answer, settled) = mpsc::channel();
        self.send.send(Message::Settle(answer)).map_err(|_| anyhow!("writing the journal failed"))?;
        settled.recv().context("writing the journal failed")?;
        parse(&std::fs::read_to_string(&self.path)?)
    }
}

fn parse(text: &str) -> Result<Acknowledged> {
    let mut acknowledged = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(kind), Some(key), Some(id)) = (words.next().and_then(Kind::named), words.next(), words.next()) else {
            bail!("a damaged line in the journal: {line}")
        };
        let earlier = acknowledged.insert((kind, key.to_owned()), id.to_owned());
        if let Some(earlier) = earlier.filter(|earlier| earlier != id) {
            bail!("{} {key} was acknowledged as {earlier} and as {id}", kind.name());
        }
    }
    Ok(acknowledged)
}

fn write(mut file: File, messages: &mpsc::Receiver<Message>) -> std::io::Result<()> {
    while let Ok(first) = messages.recv() {
        let mut lines = String::new();
        let mut waiting = Vec::new();
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Line(line) => lines.push_str(&line),
                Message::Settle(answer) => waiting.push(answer),
            }
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        for answer in waiting {
            answer.send(()).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_in_the_file_and_two_ids_for_one_fact_are_an_error() {
        let path = std::env::temp_dir().join(format!("alpes-journal-{}", std::process::id()));
        let journal = Journal::create(&path).unwrap();
        journal.note(Kind::Sale, "s1", "cnv_1");
        journal.note(Kind::Refund, "s1", "rfd_1");
        journal.note(Kind::Sale, "s1", "cnv_1");
        let acknowledged = journal.acknowledged().unwrap();
        assert_eq!(acknowledged.len(), 2);
        assert_eq!(acknowledged[&(Kind::Refund, "s1".to_owned())], "rfd_1");
        journal.note(Kind::Sale, "s1", "cnv_2");
        assert!(journal.acknowledged().unwrap_err().to_string().contains("as cnv_1 and as cnv_2"));
        std::fs::remove_file(path).unwrap();
    }
}
