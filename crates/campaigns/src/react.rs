//! Reacts to facts that name a campaign nobody knows, where the installation wants such campaigns to be created: each
//! becomes a provisional draft without terms, until an operator completes and activates it.

use std::collections::BTreeMap;

use events::campaigns::{AttributionPolicy, CampaignReference};
use events::conversions::ReferenceMissing;
use kernel::{Currency, Event, EventRecord, Key, Label, NewEvent, Reference, Result, Timestamp};
use platform::{Consumer, Tx, published};

use crate::create::created;
use crate::model::life::DRAFT;
use crate::store;
use crate::views::CampaignView;

/// 1900-01-01T00:00:00Z, before every fact: nobody knows yet since when the campaign runs.
const BEFORE_EVERY_FACT: Timestamp = Timestamp::from_micros(-2_208_988_800_000_000);

/// The consumer of this context.
pub fn consumer() -> Consumer {
    Consumer { name: "campaigns", types: vec![ReferenceMissing::TYPE], react: Box::new(provide) }
}

/// Creates the campaigns that are missing, with a number of statements that does not depend on theirs. A reference that
/// names a campaign by now, or twice in the slice, creates none; nor does a touch, which has no currency: the campaign
/// comes with the first conversion that names it.
fn provide(tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<()> {
    let mut missing: BTreeMap<String, (Currency, &EventRecord)> = BTreeMap::new();
    for record in events {
        let event: ReferenceMissing = record.decode()?;
        if let ("campaign", Some(currency)) = (event.kind.as_str(), event.currency) {
            missing.entry(event.reference).or_insert((currency, record));
        }
    }
    let keys: Vec<&[u8]> = missing.keys().map(String::as_bytes).collect();
    let known = published::get::<CampaignReference>(tx, &keys)?;
    missing.retain(|text, _| !known.contains_key(text.as_bytes()));
    let mut in_order: Vec<(Reference, Currency, &EventRecord)> =
        missing.into_iter().filter_map(|(text, (currency, record))| Some((parse(&text)?, currency, record))).collect();
    in_order.sort_by_key(|(_, _, record)| record.position);
    let campaigns: Vec<CampaignView> =
        in_order.iter().map(|(reference, currency, _)| provisional(tx, reference, *currency)).collect();
    if campaigns.is_empty() {
        return Ok(());
    }
    store::insert(tx, &campaigns)?;
    let told = campaigns.iter().zip(&in_order);
    let told: Vec<NewEvent> =
        told.map(|(campaign, (_, _, record))| NewEvent::of(&created(campaign)).caused_by(record)).collect();
    tx.publish(&told)?;
    Ok(())
}

/// `system:id`, divided at the first colon; nothing can be created for a text that is no such name.
fn parse(text: &str) -> Option<Reference> {
    let (system, id) = text.split_once(':')?;
    Some(Reference { system: Key::new(system).ok()?, id: Key::new(id).ok()? })
}

fn provisional(tx: &Tx<'_>, reference: &Reference, currency: Currency) -> CampaignView {
    let name: String = reference.to_string().chars().take(200).collect();
    CampaignView {
        id: tx.new_id(),
        state: DRAFT.state,
        name: Label::new(name).expect("a name has the limits of the keys in it, and is cut to its length"),
        kind: None,
        currency,
        starts_at: BEFORE_EVERY_FACT,
        ends_at: None,
        activated_at: DRAFT.activated_at,
        ended_at: DRAFT.ended_at,
        pauses: DRAFT.pauses,
        budget: None,
        attribution: AttributionPolicy::default(),
        terms: Vec::new(),
        owner_partner_id: None,
        tags: Vec::new(),
        external_refs: vec![reference.clone()],
        metadata: serde_json::Map::new(),
        provisional: true,
        created_at: tx.now(),
        updated_at: tx.now(),
        version: 1,
    }
}

#[cfg(test)]
mod tests {
    use platform::{Page, dead_letters};

    use super::*;
    use crate::testing::{World, creation, day, label, percent, reference, world};
    use crate::views::{self, CampaignFilter};
    use crate::{CampaignAction, Create};

    fn missing(kind: &str, reference: &str, currency: Option<&str>) -> NewEvent {
        let currency = currency.map(|currency| currency.parse().unwrap());
        NewEvent::of(&ReferenceMissing { kind: kind.to_owned(), reference: reference.to_owned(), currency })
    }

    fn campaigns(world: &World) -> Vec<CampaignView> {
        world.read(|reader| views::list(reader, &CampaignFilter::default(), &Page::first(500))).items
    }

    #[test]
    fn a_missing_campaign_is_created_once_in_the_currency_of_the_first_conversion() {
        let world = world();
        world.publish(&[
            missing("partner", "shopify:8", Some("USD")),
            missing("campaign", "shopify:7", None),
            missing("campaign", "shopify:7", Some("EUR")),
            missing("campaign", "shopify:7", Some("USD")),
        ]);
        world.react(512);
        world.publish(&[missing("campaign", "shopify:7", Some("EUR"))]);
        world.react(512);
        let all = campaigns(&world);
        assert_eq!(all.len(), 1);
        let campaign = &all[0];
        assert!(campaign.provisional && campaign.is_draft() && campaign.terms.is_empty());
        assert_eq!((campaign.currency.as_str(), &campaign.name), ("EUR", &label("shopify:7")));
        assert_eq!(campaign.starts_at.to_string(), "1900-01-01T00:00:00Z");
        assert_eq!(world.named("shopify:7"), Some(campaign.id));
        let told: Vec<EventRecord> =
            world.events_after(0).into_iter().filter(|event| event.event_type.starts_with("campaigns.")).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].causation_id, Some(world.events_after(2)[0].id));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn a_touch_alone_creates_none_because_it_has_no_currency() {
        let world = world();
        world.publish(&[missing("campaign", "s:1", None)]);
        world.react(512);
        assert_eq!(campaigns(&world).len(), 0);
        world.publish(&[missing("campaign", "s:1", Some("USD"))]);
        world.react(512);
        assert_eq!(campaigns(&world).len(), 1);
    }

    /// The same events again, as a restored cursor would bring them.
    #[test]
    fn redelivery_in_any_split_creates_nothing() {
        for slice in [1, 2, 512] {
            let world = world();
            let events: Vec<NewEvent> =
                (0..5).map(|n| missing("campaign", &format!("s:{}", n % 3), Some("USD"))).collect();
            world.publish(&events);
            world.react(slice);
            let all = campaigns(&world);
            assert_eq!(all.len(), 3);
            world.write(|tx| platform::consumer::reset(tx, "campaigns")).unwrap();
            world.react(slice);
            assert_eq!(campaigns(&world), all);
            assert_eq!(world.db.head(), 5 + 3);
        }
    }

    #[test]
    fn a_campaign_that_has_the_reference_by_now_is_kept_and_other_texts_create_none() {
        let world = world();
        let texts = ["s:1", "no-colon", ":1", "s:", "s:a\u{202e}b"];
        world.publish(&texts.map(|text| missing("campaign", text, Some("USD"))));
        let create = Create { external_refs: vec![reference("s", "1")], ..creation() };
        let campaign = world.create(&create).unwrap();
        world.react(512);
        assert_eq!(campaigns(&world), [campaign]);
        assert_eq!(world.read(dead_letters::count), 0);
    }

    #[test]
    fn a_provisional_campaign_needs_terms_before_it_runs() {
        let world = world();
        world.publish(&[missing("campaign", "s:1", Some("USD"))]);
        world.react(512);
        let id = campaigns(&world)[0].id;
        let head = world.db.head();
        assert_eq!(world.change(id, CampaignAction::Activate).unwrap_err().code(), "terms_missing");
        assert_eq!(world.db.head(), head);
        assert!(!world.update(id, r#"{"name": "Summer"}"#).unwrap().provisional);
        let terms = world.publish_terms(id, day(0), percent(800)).unwrap().terms;
        assert_eq!((terms.len(), terms[0].version), (1, 1));
        world.change(id, CampaignAction::Activate).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn the_number_of_statements_does_not_depend_on_the_slice() {
        let statements = |count: usize| {
            let world = world();
            let events: Vec<NewEvent> =
                (0..count).map(|n| missing("campaign", &format!("s:{n}"), Some("USD"))).collect();
            world.publish(&events);
            // The first step reads the slice and handles it; further ones only find the end of the log.
            let mut runner = platform::Runner::new(consumer());
            let before = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst);
            runner.step(&world.db).unwrap();
            let used = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst) - before;
            assert_eq!(campaigns(&world).len(), count.min(500));
            used
        };
        assert_eq!(statements(2), statements(512));
    }
}
