//! What `verify` asks of this context: that the history is legal and leads to the rows, and that what is published is
//! what the rows say.

use std::collections::BTreeMap;

use events::partners::{
    Activated, Applied, PartnerProfile, PartnerReference, Reinstated, Rejected, Suspended, Terminated, Updated,
};
use kernel::{Event, EventRecord, PartnerId, Published, Result};
use platform::{Check, Reader, event_log};

use crate::model::life::{self, APPLIED, PartnerAction};
use crate::store;
use crate::views::PartnerView;

/// Differences are named up to this many.
const MOST_DIFFERENCES: usize = 10;
/// Events are read in portions of this many.
const PORTION: usize = 4_096;

/// Replays every partner's history, and compares what is published with the rows.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let partners = reader.query("SELECT doc FROM partner ORDER BY id", &[], |row| row.json::<PartnerView>(0))?;
    let profiles = partners.iter().map(|partner| (partner.id.as_bytes().to_vec(), partner.profile())).collect();
    let references = store::references(&partners);
    let references = references.into_iter().map(|(text, owner)| (text.into_bytes(), owner)).collect();
    let sql = "SELECT doc_key, doc FROM pub_partner ORDER BY doc_key";
    let sql_references = "SELECT doc_key, doc FROM pub_partner_reference ORDER BY doc_key";
    Ok(vec![
        histories(reader, &partners)?,
        compare::<PartnerProfile>(reader, "published partners are what their rows say", sql, &profiles)?,
        compare::<PartnerReference>(reader, "published partner references are unique", sql_references, &references)?,
    ])
}

fn histories(reader: &Reader<'_>, partners: &[PartnerView]) -> Result<Check> {
    let mut differences = Vec::new();
    let mut replayed: BTreeMap<String, PartnerProfile> = BTreeMap::new();
    let mut after = 0;
    loop {
        let types = [
            Applied::TYPE,
            Activated::TYPE,
            Rejected::TYPE,
            Suspended::TYPE,
            Reinstated::TYPE,
            Terminated::TYPE,
            Updated::TYPE,
        ];
        let events = event_log::range(reader, after, i64::MAX, &types, PORTION)?;
        let Some(last) = events.last() else { break };
        after = last.position;
        for record in &events {
            if let Err(difference) = replay(&mut replayed, record) {
                differences.push(difference);
            }
        }
    }
    for partner in partners {
        match replayed.remove(&partner.id.to_string()) {
            Some(profile) if profile == partner.profile() => {}
            Some(profile) => differences.push(format!(
                "{} is {}, inactive {:?}; its history leads to {}, inactive {:?}",
                partner.id, partner.state, partner.inactive, profile.state, profile.inactive
            )),
            None => differences.push(format!("{} has no history", partner.id)),
        }
    }
    differences.extend(replayed.into_keys().map(|subject| format!("{subject} has a history and no row")));
    differences.truncate(MOST_DIFFERENCES);
    let checked = i64::try_from(partners.len()).unwrap_or(i64::MAX);
    Ok(Check { name: "partners' histories are legal and lead to their rows", checked, differences })
}

/// Takes one event into the replayed partners; answers in words why it cannot be.
fn replay(replayed: &mut BTreeMap<String, PartnerProfile>, record: &EventRecord) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{} at {}: {}: {why}", record.subject, record.position, record.event_type));
    let Some(profile) = replayed.get_mut(&record.subject) else {
        if record.is::<Applied>() {
            replayed.insert(record.subject.clone(), APPLIED);
            return Ok(());
        }
        return refuse("it has not applied");
    };
    let action = match record.event_type.as_str() {
        Activated::TYPE => PartnerAction::Activate,
        Rejected::TYPE => PartnerAction::Reject,
        Suspended::TYPE => PartnerAction::Suspend,
        Reinstated::TYPE => PartnerAction::Reinstate,
        Terminated::TYPE => PartnerAction::Terminate,
        Updated::TYPE => return Ok(()),
        _ => return refuse("it has applied before"),
    };
    match life::act(profile, action, record.time) {
        Ok(Some(next)) => {
            *profile = next;
            Ok(())
        }
        Ok(None) => refuse("it was so already"),
        Err(fault) => refuse(fault.detail()),
    }
}

/// Compares a published table, read whole by `sql`, with what it should hold.
fn compare<T: Published + PartialEq>(
    reader: &Reader<'_>,
    name: &'static str,
    sql: &str,
    expected: &BTreeMap<Vec<u8>, T>,
) -> Result<Check> {
    let found: BTreeMap<Vec<u8>, T> =
        reader.query(sql, &[], |row| Ok((row.bytes(0)?.to_vec(), row.json(1)?)))?.into_iter().collect();
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    let differing = keys.filter(|key| expected.get(*key) != found.get(*key));
    let differences = differing.take(MOST_DIFFERENCES).map(|key| format!("{}: {}", T::TABLE, name_of(key))).collect();
    Ok(Check { name, checked: i64::try_from(expected.len()).unwrap_or(i64::MAX), differences })
}

/// A published key in words: an id, or a text.
fn name_of(key: &[u8]) -> String {
    match key.try_into() {
        Ok(bytes) if std::str::from_utf8(key).is_err() => PartnerId::from_bytes(bytes).to_string(),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}
