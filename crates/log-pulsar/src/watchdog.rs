//! The watchdog: silence is normal when there is nothing to say, and a hanging driver otherwise; only the broker knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kernel::Result;
use serde_json::Value;

use crate::faults;
use crate::options::Options;
use crate::subscription::SubscriptionOptions;
use crate::topics;

pub(crate) struct Watchdog {
    silence: Duration,
    since: Option<Instant>,
}

impl Watchdog {
    pub(crate) const fn new(silence: Duration) -> Self {
        Self { silence, since: None }
    }

    /// Something arrived, or there is a new connection.
    pub(crate) const fn heard(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Nothing arrived. After a long silence the broker is asked about the topics and about our consumers of each, `names`;
    /// a fault when messages should have come.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        options: &Options,
        how: &SubscriptionOptions,
        names: &BTreeMap<String, BTreeSet<String>>,
        held: usize,
    ) -> Result<()> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.silence {
            return Ok(());
        }
        self.heard(now);
        for (topic, ours) in names {
            let state = match topics::statistics(options, topic) {
                Ok(stats) => stats.map(|stats| stats["subscriptions"][&how.name].clone()),
                Err(fault) => {
                    tracing::warn!(subscription = how.name, %fault, "a silent subscription cannot be checked");
                    return Ok(());
                }
            };
            if let Some(sign) = state.and_then(|state| sign_of_hanging(&state, ours, held)) {
                let seconds = self.silence.as_secs();
                let what =
                    format!("{} heard nothing from {topic} for {seconds} seconds; it subscribes again", how.name);
                return Err(faults::unavailable(options, &what, sign));
            }
        }
        Ok(())
    }
}

/// Why messages should have come, by what the broker says about the subscription; `held` are those that wait here.
fn sign_of_hanging(subscription: &Value, ours: &BTreeSet<String>, held: usize) -> Option<&'static str> {
    let consumers = subscription["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |consumer: &&Value| consumer["consumerName"].as_str().is_some_and(|name| ours.contains(name));
    let sent = |consumer: &Value| consumer["unackedMessages"].as_i64().unwrap_or(0);
    let backlog = subscription["msgBacklog"].as_i64().unwrap_or(0);
    if backlog > 0 && !consumers.iter().any(|consumer| is_ours(&consumer)) {
        return Some("the broker does not know of us");
    }
    let sent_to_us: i64 = consumers.iter().filter(is_ours).map(sent).sum();
    if sent_to_us > i64::try_from(held).unwrap_or(i64::MAX) {
        return Some("the broker has sent messages that did not arrive");
    }
    // With others it may be them who are slow.
    let alone = consumers.iter().all(|consumer| is_ours(&consumer));
    (alone && backlog > sent_to_us).then_some("the broker has messages that it does not send")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_that_should_have_come_are_a_sign_and_those_of_others_are_not() {
        let ours = BTreeSet::from(["we".to_owned()]);
        let consumer = |name: &str, count: i64| json!({ "consumerName": name, "unackedMessages": count });
        for (subscription, held, hangs) in [
            (json!(null), 0, false),
            (json!({ "msgBacklog": 0, "consumers": [consumer("we", 0)] }), 0, false),
            (json!({ "msgBacklog": 5, "consumers": [] }), 0, true),
            (json!({ "msgBacklog": 5, "consumers": [consumer("they", 0)] }), 0, true),
            (json!({ "msgBacklog": 5, "consumers": [consumer("we", 5)] }), 5, false),
            (json!({ "msgBacklog": 5, "consumers": [consumer("we", 5)] }), 4, true),
            (json!({ "msgBacklog": 5, "consumers": [consumer("we", 0)] }), 0, true),
            (json!({ "msgBacklog": 5, "consumers": [consumer("we", 0), consumer("they", 1)] }), 0, false),
        ] {
            assert_eq!(sign_of_hanging(&subscription, &ours, held).is_some(), hangs, "{subscription}");
        }
    }
}
