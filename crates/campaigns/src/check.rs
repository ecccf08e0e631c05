//! What `verify` asks of this context: that the history is legal and leads to the rows, and that what is published is
//! what the rows say.

use std::collections::BTreeMap;

use events::campaigns::{
    Activated, BudgetChanged, CampaignProfile, CampaignReference, Cancelled, CodeOwner, Completed, Created,
    EnrollmentClosed, EnrollmentOpened, Enrollments, Paused, Resumed, TermsPublished, TermsVersion, Updated,
};
use kernel::{CampaignId, Event, EventRecord, Money, Published, Result};
use platform::{Check, Reader, event_log};

use crate::enrollments;
use crate::model::life::{CampaignAction, DRAFT, Life};
use crate::store;
use crate::views::{self, CampaignView, EnrollmentState, EnrollmentView};

/// Differences are named up to this many.
const MOST_DIFFERENCES: usize = 10;
/// Events are read in portions of this many.
const PORTION: usize = 4_096;

/// Replays the history of every campaign and every enrolment, and compares what is published with the rows.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let campaigns = reader.query("SELECT doc FROM campaign ORDER BY id", &[], |row| row.json::<CampaignView>(0))?;
    let sql = format!("SELECT {} FROM enrollment ORDER BY id", views::ENROLLMENT_COLUMNS);
    let enrollments = reader.query(&sql, &[], views::enrollment)?;
    Ok(vec![
        campaign_histories(reader, &campaigns)?,
        enrollment_histories(reader, &enrollments)?,
        compare::<CampaignProfile>(
            reader,
            "published campaigns are what their rows say",
            "SELECT doc_key, doc FROM pub_campaign ORDER BY doc_key",
            campaigns.iter().map(|campaign| (campaign.id.as_bytes().to_vec(), campaign.profile())).collect(),
        )?,
        compare::<CampaignReference>(
            reader,
            "published campaign references are what the rows say",
            "SELECT doc_key, doc FROM pub_campaign_reference ORDER BY doc_key",
            store::references(&campaigns).into_iter().map(|(text, owner)| (text.into_bytes(), owner)).collect(),
        )?,
        compare::<Enrollments>(
            reader,
            "published enrolments are what their rows say",
            "SELECT doc_key, doc FROM pub_enrollment ORDER BY doc_key",
            spans(&enrollments),
        )?,
        compare::<CodeOwner>(
            reader,
            "published codes are what the enrolments say",
            "SELECT doc_key, doc FROM pub_code ORDER BY doc_key",
            codes(&enrollments),
        )?,
    ])
}

fn spans(all: &[EnrollmentView]) -> BTreeMap<Vec<u8>, Enrollments> {
    let mut spans: BTreeMap<Vec<u8>, Enrollments> = BTreeMap::new();
    for enrollment in all {
        let key = Enrollments::key(enrollment.campaign_id, enrollment.partner_id);
        spans.entry(key.to_vec()).or_default().0.push(enrollments::span(enrollment));
    }
    spans
}

fn codes(all: &[EnrollmentView]) -> BTreeMap<Vec<u8>, CodeOwner> {
    let code = |enrollment: &EnrollmentView| {
        let code = enrollment.code.as_ref()?.as_str().as_bytes().to_vec();
        Some((code, enrollments::code_owner(enrollment)))
    };
    all.iter().filter_map(code).collect()
}

/// Gives every event of these types to `replay`, in order, and collects what it objects to.
fn replay_all(
    reader: &Reader<'_>,
    types: &[&str],
    mut replay: impl FnMut(&EventRecord) -> Result<(), String>,
) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let mut after = 0;
    loop {
        let events = event_log::range(reader, after, i64::MAX, types, PORTION)?;
        let Some(last) = events.last() else { return Ok(differences) };
        after = last.position;
        for record in &events {
            if let Err(why) = replay(record) {
                differences.push(format!("{} at {}: {}: {why}", record.subject, record.position, record.event_type));
            }
        }
    }
}

fn decode<E: Event>(record: &EventRecord) -> Result<E, String> {
    record.decode().map_err(|fault| fault.to_string())
}

/// What the history of a campaign leads to.
#[derive(Debug, PartialEq)]
struct Replayed {
    life: Life,
    terms: Vec<TermsVersion>,
    budget: Option<Money>,
}

fn campaign_histories(reader: &Reader<'_>, campaigns: &[CampaignView]) -> Result<Check> {
    let types = [
        Created::TYPE,
        Activated::TYPE,
        Paused::TYPE,
        Resumed::TYPE,
        Completed::TYPE,
        Cancelled::TYPE,
        Updated::TYPE,
        BudgetChanged::TYPE,
        TermsPublished::TYPE,
    ];
    let mut replayed: BTreeMap<String, Replayed> = BTreeMap::new();
    let mut differences = replay_all(reader, &types, |record| replay_campaign(&mut replayed, record))?;
    for campaign in campaigns {
        let row = Replayed { life: campaign.life(), terms: campaign.terms.clone(), budget: campaign.budget };
        match replayed.remove(&campaign.id.to_string()) {
            Some(history) if history == row => {}
            Some(history) => differences.push(format!("{} is {row:?}; its history leads to {history:?}", campaign.id)),
            None => differences.push(format!("{} has no history", campaign.id)),
        }
    }
    differences.extend(replayed.into_keys().map(|subject| format!("{subject} has a history and no row")));
    differences.truncate(MOST_DIFFERENCES);
    let checked = i64::try_from(campaigns.len()).unwrap_or(i64::MAX);
    Ok(Check { name: "campaigns' histories are legal and lead to their rows", checked, differences })
}

/// Takes one event into the replayed campaigns; answers in words why it cannot be.
fn replay_campaign(replayed: &mut BTreeMap<String, Replayed>, record: &EventRecord) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    let Some(campaign) = replayed.get_mut(&record.subject) else {
        if record.is::<Created>() {
            replayed.insert(record.subject.clone(), Replayed { life: DRAFT, terms: Vec::new(), budget: None });
            return Ok(());
        }
        return refuse("it was not created");
    };
    let action = match record.event_type.as_str() {
        Activated::TYPE if campaign.terms.is_empty() => return refuse("it has no terms"),
        Activated::TYPE => CampaignAction::Activate,
        Paused::TYPE => CampaignAction::Pause,
        Resumed::TYPE => CampaignAction::Resume,
        Completed::TYPE => CampaignAction::Complete,
        Cancelled::TYPE => CampaignAction::Cancel,
        Updated::TYPE => return Ok(()),
        BudgetChanged::TYPE => {
            campaign.budget = decode::<BudgetChanged>(record)?.budget;
            return Ok(());
        }
        TermsPublished::TYPE => {
            let event: TermsPublished = decode(record)?;
            if event.version != campaign.terms.last().map_or(1, |last| last.version + 1) {
                return refuse("its version is not the next one");
            }
            if event.valid_from < record.time && campaign.life != DRAFT {
                return refuse("it is backdated");
            }
            let (version, valid_from, published_at) = (event.version, event.valid_from, record.time);
            campaign.terms.push(TermsVersion { version, valid_from, published_at, terms: event.terms });
            return Ok(());
        }
        _ => return refuse("it was created before"),
    };
    match campaign.life.act(action, record.time) {
        Ok(Some(next)) => {
            campaign.life = next;
            Ok(())
        }
        Ok(None) => refuse("it was so already"),
        Err(fault) => refuse(fault.detail()),
    }
}

fn enrollment_histories(reader: &Reader<'_>, enrollments: &[EnrollmentView]) -> Result<Check> {
    let types = [EnrollmentOpened::TYPE, EnrollmentClosed::TYPE];
    let mut replayed: BTreeMap<String, EnrollmentView> = BTreeMap::new();
    let mut differences = replay_all(reader, &types, |record| replay_enrollment(&mut replayed, record))?;
    for enrollment in enrollments {
        match replayed.remove(&enrollment.id.to_string()) {
            Some(history) if history == *enrollment => {}
            Some(history) => differences.push(format!("{enrollment:?}: its history leads to {history:?}")),
            None => differences.push(format!("{} has no history", enrollment.id)),
        }
    }
    differences.extend(replayed.into_keys().map(|subject| format!("{subject} has a history and no row")));
    differences.truncate(MOST_DIFFERENCES);
    let checked = i64::try_from(enrollments.len()).unwrap_or(i64::MAX);
    Ok(Check { name: "enrolments' histories are legal and lead to their rows", checked, differences })
}

/// Takes one event into the replayed enrolments; answers in words why it cannot be.
fn replay_enrollment(replayed: &mut BTreeMap<String, EnrollmentView>, record: &EventRecord) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    let Some(enrollment) = replayed.get_mut(&record.subject) else {
        if !record.is::<EnrollmentOpened>() {
            return refuse("it was not opened");
        }
        let event: EnrollmentOpened = decode(record)?;
        let opened = EnrollmentView {
            id: event.enrollment_id,
            campaign_id: event.campaign_id,
            partner_id: event.partner_id,
            state: EnrollmentState::Open,
            code: event.code,
            from: event.from,
            to: event.to,
            planned_to: event.to,
            opened_at: record.time,
            closed_at: None,
        };
        replayed.insert(record.subject.clone(), opened);
        return Ok(());
    };
    if !record.is::<EnrollmentClosed>() {
        return refuse("it was opened before");
    }
    let event: EnrollmentClosed = decode(record)?;
    if enrollment.to.is_some_and(|to| to < event.to) {
        return refuse("its end moves to later");
    }
    enrollment.state = EnrollmentState::Closed;
    enrollment.to = Some(event.to);
    enrollment.closed_at = Some(record.time);
    Ok(())
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

/// A published key for people: the id of the campaign that it begins with, or a text.
fn in_words(key: &[u8]) -> String {
    match (std::str::from_utf8(key), key.first_chunk()) {
        (Ok(text), _) => text.to_owned(),
        (Err(_), Some(bytes)) => CampaignId::from_bytes(*bytes).to_string(),
        (Err(_), None) => kernel::hex(key),
    }
}

#[cfg(test)]
mod tests {
    use kernel::NewEvent;
    use platform::{Tx, published};

    use super::*;
    use crate::testing::{
        OTHER_PARTNER, PARTNER, World, amount, creation, day, enrollment, key, percent, reference, world,
    };
    use crate::{ChangeBudget, Create, Enroll};

    /// A campaign with everything in its history, and an enrolment.
    fn busy(world: &World) -> (CampaignView, EnrollmentView) {
        let create = Create { budget: amount(500, "USD"), external_refs: vec![reference("s", "1")], ..creation() };
        let id = world.create(&create).unwrap().id;
        world.publish_terms(id, day(5), percent(600)).unwrap();
        world.change(id, CampaignAction::Activate).unwrap();
        world.set_day(12);
        world.write(|tx| ChangeBudget { budget: amount(700, "USD") }.run(tx, id)).unwrap();
        world.update(id, r#"{"name": "Winter"}"#).unwrap();
        let enroll = Enroll { code: Some(key("A")), ..enrollment(PARTNER) };
        let opened = world.enroll(id, &enroll).unwrap();
        let closed = world.close(id, opened.id, Some(day(20))).unwrap();
        (world.change(id, CampaignAction::Pause).unwrap(), closed)
    }

    #[test]
    fn a_sound_world_has_no_differences() {
        let world = world();
        busy(&world);
        let checks = world.read(check);
        assert_eq!(checks.iter().map(|check| check.checked).collect::<Vec<_>>(), [1; 6]);
        assert!(checks.iter().all(|check| check.differences.is_empty()), "{checks:?}");
    }

    fn tell<E: Event>(tx: &mut Tx<'_>, event: &E) -> Result<()> {
        tx.publish(&[NewEvent::of(event)]).map(|_| ())
    }

    type Plant = fn(&mut Tx<'_>, CampaignView, EnrollmentView) -> Result<()>;

    fn assert_found(plants: &[(&str, Plant)]) {
        for (expected, plant) in plants {
            let world = world();
            let (campaign, enrollment) = busy(&world);
            world.write(|tx| plant(tx, campaign.clone(), enrollment.clone())).unwrap();
            let differences = world.differences();
            assert!(differences.iter().any(|found| found.contains(expected)), "{expected}: {differences:?}");
        }
    }

    #[test]
    fn every_planted_history_is_found() {
        assert_found(&[
            ("was so already", |tx, c, _| tell(tx, &Paused { campaign_id: c.id, reason: None })),
            ("cannot activate", |tx, c, _| tell(tx, &Activated { campaign_id: c.id, reason: None })),
            ("its history leads to", |tx, c, _| tell(tx, &Resumed { campaign_id: c.id, reason: None })),
            ("its history leads to", |tx, c, _| tell(tx, &BudgetChanged { campaign_id: c.id, budget: None })),
            ("not the next one", |tx, c, _| {
                let (campaign_id, valid_from) = (c.id, tx.now());
                tell(tx, &TermsPublished { campaign_id, version: 4, valid_from, terms: percent(1) })
            }),
            ("backdated", |tx, c, _| {
                tell(tx, &TermsPublished { campaign_id: c.id, version: 3, valid_from: day(1), terms: percent(1) })
            }),
            ("was created before", |tx, c, _| tell(tx, &crate::create::created(&c))),
            ("was not created", |tx, _, _| {
                tell(tx, &Paused { campaign_id: CampaignId::from_bytes([9; 16]), reason: None })
            }),
            ("has no history", |tx, c, _| {
                store::insert(tx, &[CampaignView { id: tx.new_id(), external_refs: Vec::new(), ..c }])
            }),
            ("a history and no row", |tx, c, _| {
                tx.execute("DELETE FROM campaign WHERE id = ?", &[(&c.id).into()]).map(|_| ())
            }),
            ("its end moves to later", |tx, _, e| {
                let (enrollment_id, campaign_id, partner_id) = (e.id, e.campaign_id, e.partner_id);
                tell(tx, &EnrollmentClosed { enrollment_id, campaign_id, partner_id, to: day(21) })
            }),
            ("was opened before", |tx, _, e| tell(tx, &crate::enroll::opened(&e))),
            ("has no history", |tx, _, e| {
                enrollments::insert(tx, &EnrollmentView { id: tx.new_id(), code: None, ..e })
            }),
        ]);
    }

    #[test]
    fn every_planted_publication_is_found() {
        assert_found(&[
            ("pub_campaign: cmp_", |tx, c, _| {
                let profile = CampaignProfile { pauses: Vec::new(), ..c.profile() };
                published::put(tx, &[(&c.id.as_bytes()[..], &profile)])
            }),
            ("pub_campaign_reference: s:1", |tx, _, _| {
                let owner = CampaignReference { campaign_id: CampaignId::from_bytes([9; 16]) };
                published::put(tx, &[(&b"s:1"[..], &owner)])
            }),
            ("pub_enrollment: cmp_", |tx, c, _| {
                published::put(tx, &[(&Enrollments::key(c.id, PARTNER)[..], &Enrollments::default())])
            }),
            ("pub_enrollment: cmp_", |tx, c, e| {
                let spans = Enrollments(vec![enrollments::span(&e)]);
                published::put(tx, &[(&Enrollments::key(c.id, OTHER_PARTNER)[..], &spans)])
            }),
            ("pub_code: A", |tx, _, e| {
                let owner = CodeOwner { partner_id: OTHER_PARTNER, ..enrollments::code_owner(&e) };
                published::put(tx, &[(&b"A"[..], &owner)])
            }),
        ]);
    }
}
