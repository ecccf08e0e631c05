//! The sink: hands the log's events over to the broker, slice by slice.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{EventRecord, Result};
use platform::Sink;

use crate::link::Link;
use crate::message::{self, Topic};
use crate::options::Options;

/// Takes events to Pulsar. Connects with the first slice, and again with the slice after a failure.
pub struct PulsarSink {
    options: Options,
    topics: BTreeMap<String, Topic>,
    link: Option<Link>,
}

impl PulsarSink {
    /// A sink that is not connected yet. Fault: `broker_refused` when the options name a topic that there is not.
    pub fn new(options: Options) -> Result<Self> {
        let topics = message::topics(&options)?;
        Ok(Self { options, topics, link: None })
    }

    fn send(&mut self, events: &[EventRecord]) -> Result<()> {
        let messages = events.iter().map(|event| message::of(&self.options, &self.topics, event));
        let messages: Vec<_> = messages.collect::<Result<_>>()?;
        let link = match &mut self.link {
            Some(link) => link,
            empty => empty.insert(Link::open(&self.options)?),
        };
        let used: BTreeSet<&str> = messages.iter().map(|(local, _)| local.as_str()).collect();
        let used = used.into_iter().map(|local| &self.topics[local]);
        let wanted = used.map(|topic| (topic.name.clone(), Some(topic.schema.declared(topic.encoding)))).collect();
        link.prepare(&self.options, wanted)?;
        let topics = &self.topics;
        let messages = messages.into_iter().map(|(local, message)| (topics[&local].name.clone(), message)).collect();
        link.send(&self.options, messages)
    }
}

impl Sink for PulsarSink {
    fn name(&self) -> &str {
        "pulsar"
    }

    fn deliver(&mut self, events: &[EventRecord]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let outcome = self.send(events);
        if outcome.is_err() {
            // What it still has under way must not arrive after what the next attempt sends.
            self.link = None;
        }
        outcome
    }
}
