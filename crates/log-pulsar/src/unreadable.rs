//! Messages that the driver cannot unpack: it knows no Snappy as other clients write it, and a garbled batch is garbled.
//! It only says that there was one, and the broker keeps it as unacknowledged for ever. So the broker is asked which it is:
//! its administration can look at what is not acknowledged, and unpacks it too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kernel::Result;
use serde_json::Value;

use crate::admin::{Admin, Shown};
use crate::inbound::Inbound;
use crate::options::Options;

/// Acknowledgements have no answer; after so long the broker has heard of them.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many unacknowledged messages are looked at in one go.
const WINDOW: usize = 200;

/// How many were met, by topic, and when to look for them.
#[derive(Default)]
pub(crate) struct Unreadable {
    topics: BTreeMap<String, usize>,
    due: Option<Instant>,
    /// What the last look showed: something that is still there in the next one is not just under way, here or in another
    /// process.
    seen: BTreeSet<(u64, u64)>,
}

impl Unreadable {
    pub(crate) fn count(&self) -> usize {
        self.topics.values().sum()
    }

    pub(crate) fn met(&mut self, topic: &str, now: Instant) {
        *self.topics.entry(topic.to_owned()).or_default() += 1;
        self.due = Some(now + PATIENCE);
    }

    pub(crate) fn done(&mut self, topic: &str) {
        if let Some(count) = self.topics.get_mut(topic) {
            *count -= 1;
        }
        self.topics.retain(|_, count| *count > 0);
    }

    /// Those that the broker shows now, as far as they are none of those that `waits` says wait here. Some may only show
    /// the next time.
    pub(crate) fn find(
        &mut self,
        now: Instant,
        options: &Options,
        subscription: &str,
        waits: impl Fn(u64, u64) -> bool,
    ) -> Result<Vec<Inbound>> {
        if self.topics.is_empty() || self.due.is_some_and(|due| now < due) {
            return Ok(Vec::new());
        }
        self.due = Some(now + PATIENCE);
        let admin = Admin::aside(options);
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for (topic, &count) in &self.topics {
            let mut missing = count;
            for nth in 1..=WINDOW {
                let path = format!("{}/subscription/{subscription}/position/{nth}", topic.replacen("://", "/", 1));
                let Some(Shown { headers, body }) = admin.look(&path)? else { break };
                let Some(id) = packed(&headers).filter(|&(ledger, entry)| !waits(ledger, entry)) else { continue };
                seen.insert(id);
                if missing > 0 && self.seen.contains(&id) {
                    missing -= 1;
                    found.push(message(topic, id, &headers, body));
                }
            }
        }
        self.seen = seen;
        Ok(found)
    }
}

/// The ledger and the entry of a message that is compressed or a batch: only such can fail to be unpacked.
fn packed(headers: &BTreeMap<String, String>) -> Option<(u64, u64)> {
    let packed = ["x-pulsar-compression", "x-pulsar-num-batch-message"].iter().any(|name| headers.contains_key(*name));
    let (ledger, entry) = headers.get("x-pulsar-message-id").filter(|_| packed)?.split_once(':')?;
    Some((ledger.parse().ok()?, entry.split(':').next()?.parse().ok()?))
}

fn message(topic: &str, id: (u64, u64), headers: &BTreeMap<String, String>, payload: Vec<u8>) -> Inbound {
    let said =
        headers.get("x-pulsar-property").and_then(|text| serde_json::from_str::<BTreeMap<String, Value>>(text).ok());
    let properties = said.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
    let key = headers.get("x-pulsar-partition-key").cloned();
    Inbound::looked_at(topic, id, key, properties.collect(), payload)
}
