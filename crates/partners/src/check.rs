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
    Ok(vec![
        histories(reader, &partners)?,
        compare::<PartnerProfile>(
            reader,
            "published partners are what their rows say",
            "SELECT doc_key, doc FROM pub_partner ORDER BY doc_key",
            partners.iter().map(|partner| (partner.id.as_bytes().to_vec(), partner.profile())).collect(),
        )?,
        compare::<PartnerReference>(
            reader,
            "published partner references are what the rows say",
            "SELECT doc_key, doc FROM pub_partner_reference ORDER BY doc_key",
            store::references(&partners).into_iter().map(|(text, owner)| (text.into_bytes(), owner)).collect(),
        )?,
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
            if let Err(why) = replay(&mut replayed, record) {
                differences.push(format!("{} at {}: {}: {why}", record.subject, record.position, record.event_type));
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
    let refuse = |why: &str| Err(why.to_owned());
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
    expected: BTreeMap<Vec<u8>, T>,
) -> Result<Check> {
    let found: BTreeMap<Vec<u8>, T> =
        reader.query(sql, &[], |row| Ok((row.bytes(0)?.to_vec(), row.json(1)?)))?.into_iter().collect();
    let checked = i64::try_from(expected.len()).unwrap_or(i64::MAX);
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    let differing = keys.filter(|key| expected.get(*key) != found.get(*key));
    let differences = differing.take(MOST_DIFFERENCES).map(|key| format!("{}: {}", T::TABLE, in_words(key))).collect();
    Ok(Check { name, checked, differences })
}

/// A published key for people: a text, or an id.
fn in_words(key: &[u8]) -> String {
    match (std::str::from_utf8(key), key.first_chunk()) {
        (Ok(text), _) => text.to_owned(),
        (Err(_), Some(bytes)) => PartnerId::from_bytes(*bytes).to_string(),
        (Err(_), None) => kernel::hex(key),
    }
}

#[cfg(test)]
mod tests {
    use kernel::NewEvent;
    use platform::published;

    use super::*;
    use crate::testing::{World, application, reference, world};
    use crate::{Apply, Update};

    fn suspended(world: &World) -> PartnerView {
        let apply = Apply { external_refs: vec![reference("s", "1")], ..application("A") };
        let id = world.apply(&apply).unwrap().id;
        world.change(id, PartnerAction::Activate).unwrap();
        world.set_day(1);
        let update = Update { name: Some(kernel::Label::new("B").unwrap()), ..Update::default() };
        world.write(|tx| update.run(tx, id)).unwrap();
        world.change(id, PartnerAction::Suspend).unwrap()
    }

    #[test]
    fn a_sound_world_has_no_differences() {
        let world = world();
        suspended(&world);
        let checks = world.read(check);
        assert_eq!(checks.iter().map(|check| check.checked).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(checks.iter().all(|check| check.differences.is_empty()), "{checks:?}");
    }

    #[test]
    fn every_planted_difference_is_found() {
        type Plant = fn(&mut Tx<'_>, PartnerView) -> Result<()>;
        use platform::Tx;
        let plants: [(&str, Plant); 8] = [
            ("was so already", |tx, partner| {
                tx.publish(&[NewEvent::of(&Suspended { partner_id: partner.id, reason: None })]).map(|_| ())
            }),
            ("cannot activate", |tx, partner| {
                tx.publish(&[NewEvent::of(&Activated { partner_id: partner.id, reason: None })]).map(|_| ())
            }),
            ("its history leads to active", |tx, partner| {
                tx.publish(&[NewEvent::of(&Reinstated { partner_id: partner.id, reason: None })]).map(|_| ())
            }),
            ("has not applied", |tx, _| {
                let partner_id = PartnerId::from_bytes([9; 16]);
                tx.publish(&[NewEvent::of(&Updated { partner_id, external_refs: Vec::new() })]).map(|_| ())
            }),
            ("has no history", |tx, partner| {
                store::insert(tx, &[PartnerView { id: tx.new_id(), external_refs: Vec::new(), ..partner }])
            }),
            ("a history and no row", |tx, partner| {
                tx.execute("DELETE FROM partner WHERE id = ?", &[(&partner.id).into()]).map(|_| ())
            }),
            ("pub_partner: ptr_", |tx, partner| {
                let profile = PartnerProfile { inactive: Vec::new(), ..partner.profile() };
                published::put(tx, &[(&partner.id.as_bytes()[..], &profile)])
            }),
            ("pub_partner_reference: s:1", |tx, _| {
                let owner = PartnerReference { partner_id: PartnerId::from_bytes([9; 16]) };
                published::put(tx, &[(&b"s:1"[..], &owner)])
            }),
        ];
        for (expected, plant) in plants {
            let world = world();
            let partner = suspended(&world);
            world.write(|tx| plant(tx, partner.clone())).unwrap();
            let differences = world.differences();
            assert!(differences.iter().any(|found| found.contains(expected)), "{expected}: {differences:?}");
        }
    }
}
