//! What is on the broker's topics, read with the broker's own client: every event at least once, and for each key its
//! first copies in the order of the log.

use super::cluster::Broker;
use crate::services;
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long nothing may come before it counts as the end.
const SILENCE: Duration = Duration::from_secs(20);

/// Reads every topic of the installation up to the event at `head`.
///
/// # Errors
/// When an event is missing, or a key's events are out of order.
pub(super) fn check(broker: &Broker, head: u64) -> Result<String> {
    let mut client = services::pulsar_client()?;
    let topics = format!("persistent://public/{}/.*", broker.namespace);
    client.args(["--url", &broker.url, "consume", "--regex", "--num-messages", "0"]);
    client.args(["--subscription-name", "check", "--subscription-position", "Earliest", &topics]);
    let mut client = Reader(client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let output = client.0.stdout.take().context("it is piped")?;
    let (send, receive) = mpsc::channel();
    // Ends with the client.
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    let mut copies = Copies::default();
    while copies.positions.len() < usize::try_from(head)? {
        let Ok(line) = receive.recv_timeout(SILENCE) else { break };
        copies.take(&line)?;
    }
    let Copies { positions, doubled, .. } = copies;
    let missing = (1..=head).filter(|position| !positions.contains(position)).count();
    ensure!(missing == 0, "{missing} of {head} events are not on the broker");
    Ok(format!("the broker has all {head} events, each key's in order; {doubled} came again"))
}

/// The client's process; killed when dropped, because it would wait for more.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[derive(Default)]
struct Copies {
    positions: BTreeSet<u64>,
    doubled: u64,
    /// The last position of each key.
    last: BTreeMap<String, u64>,
}

impl Copies {
    /// Takes a line that the client has printed; only those with a message count.
    fn take(&mut self, line: &str) -> Result<()> {
        let Some((key, position)) = message(line) else { return Ok(()) };
        if !self.positions.insert(position) {
            self.doubled += 1;
            return Ok(());
        }
        let before = self.last.insert(key.to_owned(), position).unwrap_or(0);
        ensure!(before < position, "the events of {key} are out of order: after {before} comes {position}");
        Ok(())
    }
}

/// Key and position of a message as the client prints it.
fn message(line: &str) -> Option<(&str, u64)> {
    let key = line.split_once("key:[")?.1.split_once(']')?.0;
    let position = line.split_once("ce_sequence=")?.1.split([',', ']']).next()?.parse().ok()?;
    Some((key, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_comes_again_is_counted_and_one_that_overtakes_is_found() {
        let line = |key: &str, position: u64| {
            format!(
                "publishTime:[1], eventTime:[2], key:[{key}], properties:[ce_id=x, ce_sequence={position}], content:{{}}"
            )
        };
        let mut copies = Copies::default();
        for (key, position) in [("a", 1), ("b", 3), ("a", 2), ("a", 1), ("a", 2), ("a", 5)] {
            copies.take(&line(key, position)).unwrap();
        }
        copies.take("----- got message -----").unwrap();
        assert_eq!((copies.positions.len(), copies.doubled), (4, 2));
        assert!(copies.take(&line("a", 4)).unwrap_err().to_string().ends_with("after 5 comes 4"));
    }
}
