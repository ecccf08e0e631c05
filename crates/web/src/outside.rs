//! What the database and the broker keep for those who read events: places in the log of changes, backlogs of topics. The
//! server looks at it from time to time and tells; here it is only shown.

use kernel::Timestamp;
use serde::Serialize;

/// A place that the database keeps in its log of changes for a reader.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SlotView {
    /// The replication slot on PostgreSQL. MariaDB keeps no places: `binlog` for a session that reads, `relay_<sink>` for a
    /// stream of the process that answers.
    pub name: String,
    /// The database's own word, for example `reserved`, `unreserved`, `lost`.
    pub status: String,
    /// Whether a reader is connected.
    pub is_active: bool,
    /// How much of the log is kept for it, in bytes, where the database says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<i64>,
    /// How much is kept before the reader is given up, where there is such a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<i64>,
    /// What somebody should see to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// What a subscription on the broker has not acknowledged yet.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct BacklogView {
    /// The topic.
    pub topic: String,
    /// The subscription.
    pub subscription: String,
    /// In messages.
    pub messages: i64,
    /// What somebody should see to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// What the database and the broker keep for readers.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Outside {
    /// When this process looked; absent: it has not yet, or there is nothing to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// Places in the database's log of changes.
    pub slots: Vec<SlotView>,
    /// Topics of the broker.
    pub backlogs: Vec<BacklogView>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

impl Outside {
    /// Every alarm, with what it is about.
    pub fn alarms(&self) -> Vec<(String, &str)> {
        let slots = self.slots.iter().filter_map(|slot| Some((slot.name.clone(), slot.alarm.as_deref()?)));
        let backlogs = self.backlogs.iter().filter_map(|backlog| {
            Some((format!("{} of {}", backlog.subscription, backlog.topic), backlog.alarm.as_deref()?))
        });
        slots.chain(backlogs).collect()
    }
}
