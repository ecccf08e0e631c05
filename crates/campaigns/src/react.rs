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
