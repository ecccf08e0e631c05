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

#[cfg(test)]
mod tests {
    use platform::{Page, dead_letters};

    use super::*;
    use crate::testing::{World, application, label, reference, world};
    use crate::views::{self, PartnerFilter};
    use crate::{Apply, PartnerAction, Update};

    fn missing(kind: &str, reference: &str) -> NewEvent {
        NewEvent::of(&ReferenceMissing { kind: kind.to_owned(), reference: reference.to_owned(), currency: None })
    }

    fn partners(world: &World) -> Vec<PartnerView> {
        world.read(|reader| views::list(reader, &PartnerFilter::default(), &Page::first(500))).items
    }

    #[test]
    fn a_missing_partner_is_created_once_however_often_it_is_asked_for() {
        let world = world();
        world.publish(&[
            missing("partner", "shopify:7:7"),
            missing("campaign", "shopify:8"),
            missing("partner", "shopify:7:7"),
        ]);
        world.react(512);
        world.publish(&[missing("partner", "shopify:7:7")]);
        world.react(512);
        let all = partners(&world);
        assert_eq!(all.len(), 1);
        let partner = &all[0];
        assert!(partner.provisional && partner.state == APPLIED.state && partner.kind == PartnerKind::Affiliate);
        assert_eq!(partner.name, label("shopify:7:7"));
        assert_eq!(partner.external_refs, [reference("shopify", "7:7")]);
        assert_eq!(world.named("shopify:7:7"), Some(partner.id));
        let told: Vec<EventRecord> =
            world.events_after(0).into_iter().filter(|event| event.event_type.starts_with("partners.")).collect();
        assert_eq!(told.len(), 1);
        let cause = &world.events_after(0)[0];
        assert_eq!((told[0].causation_id, told[0].actor.as_str()), (Some(cause.id), "system"));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    /// The same events again, as a restored cursor would bring them.
    #[test]
    fn redelivery_in_any_split_creates_nothing() {
        for slice in [1, 2, 512] {
            let world = world();
            let events: Vec<NewEvent> = (0..5).map(|n| missing("partner", &format!("s:{}", n % 3))).collect();
            world.publish(&events);
            world.react(slice);
            let all = partners(&world);
            assert_eq!(all.len(), 3);
            world.write(|tx| platform::consumer::reset(tx, "partners")).unwrap();
            world.react(slice);
            assert_eq!(partners(&world), all);
            assert_eq!(world.db.head(), 5 + 3);
        }
    }

    #[test]
    fn a_partner_that_has_the_reference_by_now_is_kept() {
        let world = world();
        world.publish(&[missing("partner", "s:1")]);
        let apply = Apply { external_refs: vec![reference("s", "1")], ..application("A") };
        let partner = world.apply(&apply).unwrap();
        world.react(512);
        assert_eq!(partners(&world), [partner]);
    }

    #[test]
    fn what_is_no_reference_creates_nothing_and_is_no_dead_letter() {
        let world = world();
        let long = format!("{}:{}", "s".repeat(200), "i".repeat(200));
        world.publish(&["no-colon", ":1", "s:", "s:a\u{202e}b", &long].map(|text| missing("partner", text)));
        world.react(512);
        let all = partners(&world);
        assert_eq!(all.len(), 1, "only the long one is a reference");
        assert_eq!((all[0].name.as_str().len(), world.named(&long)), (200, Some(all[0].id)));
        assert_eq!(world.read(dead_letters::count), 0);
    }

    #[test]
    fn a_name_completes_a_provisional_partner_and_an_operator_decides_it() {
        let world = world();
        world.publish(&[missing("partner", "s:1")]);
        world.react(512);
        let id = partners(&world)[0].id;
        let update = Update { name: Some(label("Ana")), ..Update::default() };
        assert!(!world.write(|tx| update.run(tx, id)).unwrap().provisional);
        world.change(id, PartnerAction::Activate).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn the_number_of_statements_does_not_depend_on_the_slice() {
        let statements = |count: usize| {
            let world = world();
            let events: Vec<NewEvent> = (0..count).map(|n| missing("partner", &format!("s:{n}"))).collect();
            world.publish(&events);
            // The first step reads the slice and handles it; further ones only find the end of the log.
            let mut runner = platform::Runner::new(consumer());
            let before = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst);
            runner.step(&world.db).unwrap();
            let used = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst) - before;
            assert_eq!(partners(&world).len(), count.min(500));
            used
        };
        assert_eq!(statements(2), statements(512));
    }
}
