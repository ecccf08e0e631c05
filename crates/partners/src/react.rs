//! Reacts to facts that name a partner nobody knows, where the installation wants such partners to be created: each
//! becomes a provisional one, applied, until an operator completes and decides it.

use std::collections::BTreeMap;

use events::conversions::ReferenceMissing;
use events::partners::{PartnerKind, PartnerReference};
use kernel::{Event, EventRecord, Key, Label, NewEvent, Reference, Result};
use platform::{Consumer, Tx, published};

use crate::apply::applied;
use crate::model::life::APPLIED;
use crate::store;
use crate::views::PartnerView;

/// The consumer of this context.
pub fn consumer() -> Consumer {
    Consumer { name: "partners", types: vec![ReferenceMissing::TYPE], react: Box::new(provide) }
}

/// Creates the partners that are missing, with a number of statements that does not depend on theirs. A reference that
/// names a partner by now, or twice in the slice, creates none.
fn provide(tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<()> {
    let mut missing: BTreeMap<String, &EventRecord> = BTreeMap::new();
    for record in events {
        let event: ReferenceMissing = record.decode()?;
        if event.kind == "partner" {
            missing.entry(event.reference).or_insert(record);
        }
    }
    let keys: Vec<&[u8]> = missing.keys().map(String::as_bytes).collect();
    let known = published::get::<PartnerReference>(tx, &keys)?;
    missing.retain(|text, _| !known.contains_key(text.as_bytes()));
    let mut in_order: Vec<(Reference, &EventRecord)> =
        missing.into_iter().filter_map(|(text, record)| Some((parse(&text)?, record))).collect();
    in_order.sort_by_key(|(_, record)| record.position);
    let partners: Vec<PartnerView> = in_order.iter().map(|(reference, _)| provisional(tx, reference)).collect();
    if partners.is_empty() {
        return Ok(());
    }
    store::insert(tx, &partners)?;
    let told = partners.iter().zip(&in_order);
    let told: Vec<NewEvent> =
        told.map(|(partner, (_, record))| NewEvent::of(&applied(partner)).caused_by(record)).collect();
    tx.publish(&told)?;
    Ok(())
}

/// `system:id`, divided at the first colon; nothing can be created for a text that is no such name.
fn parse(text: &str) -> Option<Reference> {
    let (system, id) = text.split_once(':')?;
    Some(Reference { system: Key::new(system).ok()?, id: Key::new(id).ok()? })
}

fn provisional(tx: &Tx<'_>, reference: &Reference) -> PartnerView {
    let name: String = reference.to_string().chars().take(200).collect();
    PartnerView {
        id: tx.new_id(),
        kind: PartnerKind::Affiliate,
        state: APPLIED.state,
        name: Label::new(name).expect("a name has the limits of the keys in it, and is cut to its length"),
        email: None,
        country: None,
        external_refs: vec![reference.clone()],
        metadata: serde_json::Map::new(),
        provisional: true,
        inactive: APPLIED.inactive,
        created_at: tx.now(),
        updated_at: tx.now(),
        version: 1,
    }
}
