//! What is looked at outside of the database's tables: places in its log of changes, backlogs on the broker. Nothing here
//! may hold anybody up or fail a status: what cannot be seen is said.

use clap::Args;
use kernel::Timestamp;
use log_pulsar::{Options, topics};
use platform::Location;
use web::{BacklogView, Outside, SlotView};

use crate::changes::Lags;

/// From where on something is an alarm.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Alarms {
    /// A reader of the database's log of changes that is so many megabytes behind is an alarm; half of what the database
    /// keeps for it always is
    #[arg(long, default_value_t = 1_024, env = "ALPES_ALARM_SLOT_MEGABYTES", value_name = "MB")]
    alarm_slot_megabytes: u64,
    /// A subscription on the broker with so many unacknowledged messages is an alarm; a dead letter always is
    #[arg(long, default_value_t = 100_000, env = "ALPES_ALARM_BACKLOG_MESSAGES", value_name = "N")]
    alarm_backlog_messages: i64,
}

/// Where to look.
#[derive(Clone)]
pub(crate) struct Lookout {
    location: Location,
    broker: Option<Options>,
    alarms: Alarms,
    /// Those of the streams in this process.
    lags: Lags,
}

impl Lookout {
    pub(crate) const fn new(location: Location, broker: Option<Options>, alarms: Alarms, lags: Lags) -> Self {
        Self { location, broker, alarms, lags }
    }

    /// Whether there is anything to look at.
    pub(crate) const fn is_needed(&self) -> bool {
        self.location.is_server() || self.broker.is_some()
    }

    /// What is to be seen now.
    pub(crate) fn look(&self, now: Timestamp) -> Outside {
        let mut outside = Outside { observed_at: self.is_needed().then_some(now), ..Outside::default() };
        match cdc::slots(&self.location) {
            Ok(slots) => outside.slots = slots.into_iter().map(|slot| self.slot(slot)).collect(),
            Err(fault) => outside.unseen.push(format!("the database's log of changes: {fault}")),
        }
        let own = self.lags.known().into_iter().map(|(name, lag)| cdc::Slot {
            name,
            status: lag.status,
            is_active: lag.is_active,
            behind_bytes: Some(lag.behind_bytes),
            limit_bytes: lag.limit_bytes,
        });
        outside.slots.extend(own.map(|slot| self.slot(slot)));
        match self.broker.as_ref().map(topics::backlogs).transpose() {
            Ok(topics) => {
                let topics = topics.into_iter().flatten();
                let backlogs = topics.flat_map(|(topic, subscriptions)| {
                    subscriptions
                        .into_iter()
                        .map(move |(subscription, messages)| (topic.clone(), subscription, messages))
                });
                outside.backlogs =
                    backlogs.map(|(topic, name, messages)| self.backlog(topic, name, messages)).collect();
            }
            Err(fault) => outside.unseen.push(format!("the broker: {fault}")),
        }
        outside
    }

    fn slot(&self, slot: cdc::Slot) -> SlotView {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        SlotView {
            alarm: self.alarms.slot(&slot),
            behind_bytes: bytes(slot.behind_bytes),
            limit_bytes: bytes(slot.limit_bytes),
            name: slot.name,
            status: slot.status,
            is_active: slot.is_active,
        }
    }

    fn backlog(&self, topic: String, subscription: String, messages: i64) -> BacklogView {
        BacklogView { alarm: self.alarms.backlog(&topic, messages), topic, subscription, messages }
    }
}

impl Alarms {
    fn slot(self, slot: &cdc::Slot) -> Option<String> {
        let behind = slot.behind_bytes.unwrap_or(0);
        let megabytes = behind / 1_000_000;
        let reader = if slot.is_active { "its reader is slow" } else { "nobody reads it" };
        match slot.status.as_str() {
            "lost" => Some("its place is lost: the log of changes was not kept for it".to_owned()),
            "unreserved" => Some(format!("it is about to lose its place, {megabytes} MB behind, and {reader}")),
            _ if slot.limit_bytes.is_some_and(|limit| behind >= limit / 2) => {
                Some(format!("{megabytes} MB behind, more than half of what the database keeps, and {reader}"))
            }
            _ if megabytes >= self.alarm_slot_megabytes => Some(format!("{megabytes} MB behind, and {reader}")),
            _ => None,
        }
    }

    fn backlog(self, topic: &str, messages: i64) -> Option<String> {
        if topic.ends_with("-DLQ") && messages > 0 {
            return Some(format!("{messages} dead letters wait for somebody"));
        }
        (messages >= self.alarm_backlog_messages).then(|| format!("{messages} messages behind"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALARMS: Alarms = Alarms { alarm_slot_megabytes: 100, alarm_backlog_messages: 10 };

    #[test]
    fn slots_and_backlogs_are_alarms_from_their_limits_on() {
        let slot = |status: &str, behind_megabytes: u64, limit_megabytes: Option<u64>| cdc::Slot {
            name: "alpes_relay_pulsar".to_owned(),
            status: status.to_owned(),
            is_active: false,
            behind_bytes: Some(behind_megabytes * 1_000_000),
            limit_bytes: limit_megabytes.map(|limit| limit * 1_000_000),
        };
        for (slot, words) in [
            (slot("reserved", 99, None), None),
            (slot("reserved", 100, None), Some("100 MB behind, and nobody reads it")),
            (slot("extended", 20, Some(41)), None),
            (slot("extended", 21, Some(42)), Some("more than half")),
            (slot("unreserved", 1, None), Some("about to lose")),
            (slot("lost", 0, None), Some("lost")),
        ] {
            let alarm = ALARMS.slot(&slot);
            assert_eq!(alarm.is_some(), words.is_some(), "{slot:?}: {alarm:?}");
            assert!(words.is_none_or(|words| alarm.is_some_and(|alarm| alarm.contains(words))), "{slot:?}");
        }
        let topic = "persistent://public/alpes/partners.partner";
        assert_eq!((ALARMS.backlog(topic, 9), ALARMS.backlog(topic, 10).is_some()), (None, true));
        let letters = format!("{topic}-crm-DLQ");
        assert_eq!((ALARMS.backlog(&letters, 0), ALARMS.backlog(&letters, 1).is_some()), (None, true));
    }

    #[test]
    fn a_broker_that_cannot_be_reached_is_said_and_fails_nothing() {
        let broker = Options::new("pulsar://127.0.0.1:9", "http://127.0.0.1:9");
        let now = Timestamp::from_micros(1);
        let outside = Lookout::new(Location::directory("."), Some(broker), ALARMS, Lags::default()).look(now);
        assert_eq!((outside.observed_at, outside.backlogs.len(), outside.unseen.len()), (Some(now), 0, 1));
        assert!(outside.unseen[0].contains("http://127.0.0.1:9"), "{:?}", outside.unseen);
        let nothing = Lookout::new(Location::directory("."), None, ALARMS, Lags::default());
        assert!(!nothing.is_needed() && nothing.look(now).unseen.is_empty());
    }
}
