//! Writes partners: the row, and with it what is published about it.

use std::collections::{BTreeMap, BTreeSet};

use events::partners::{PartnerKind, PartnerProfile, PartnerReference};
use kernel::{Email, Fault, PartnerId, Reference, Result};
use platform::{OnDuplicate, Tx, Value, published};

use crate::problems;
use crate::views::{self, PartnerView};

/// External references of one partner at most.
const MOST_REFERENCES: usize = 20;
/// The size of the metadata at most, as JSON, in bytes.
const MOST_METADATA_BYTES: usize = 16_384;

/// The partner, for a change in this transaction. Fault: `partner_not_found`.
pub(crate) fn load(tx: &mut Tx<'_>, id: PartnerId) -> Result<PartnerView> {
    views::one(tx, id)
}

/// Writes new partners, with a number of statements that does not depend on theirs.
pub(crate) fn insert(tx: &mut Tx<'_>, partners: &[PartnerView]) -> Result<()> {
    let texts: Vec<(Option<String>, String)> = partners.iter().map(texts).collect::<Result<_>>()?;
    let rows: Vec<[Value<'_>; 7]> = partners
        .iter()
        .zip(&texts)
        .map(|(partner, (email, doc))| {
            [
                (&partner.id).into(),
                partner.version.into(),
                partner.kind.as_str().into(),
                partner.state.as_str().into(),
                email.as_deref().into(),
                partner.created_at.into(),
                doc.into(),
            ]
        })
        .collect();
    let columns = ["id", "version", "kind", "state", "email", "created_at", "doc"];
    tx.insert("partner", columns, &rows, OnDuplicate::Fail)?;
    publish(tx, partners)
}

/// Writes a changed partner as its next version.
pub(crate) fn save(tx: &mut Tx<'_>, partner: &mut PartnerView) -> Result<()> {
    partner.version += 1;
    partner.updated_at = tx.now();
    let (email, doc) = texts(partner)?;
    let row = [
        partner.version.into(),
        partner.state.as_str().into(),
        email.as_deref().into(),
        (&doc).into(),
        (&partner.id).into(),
    ];
    tx.update_many("partner", &["version", "state", "email", "doc"], &["id"], &[row])?;
    publish(tx, std::slice::from_ref(partner))
}

/// Two spellings of an address that differ in case reach one person.
fn compared(email: &Email) -> String {
    email.as_str().to_lowercase()
}

/// The e-mail address as it is compared, and the document.
fn texts(partner: &PartnerView) -> Result<(Option<String>, String)> {
    let email = partner.email.as_ref().map(compared);
    Ok((email, serde_json::to_string(partner).map_err(Fault::internal)?))
}

fn publish(tx: &mut Tx<'_>, partners: &[PartnerView]) -> Result<()> {
    let profiles: Vec<PartnerProfile> = partners.iter().map(PartnerView::profile).collect();
    let documents: Vec<(&[u8], &PartnerProfile)> =
        partners.iter().zip(&profiles).map(|(partner, profile)| (&partner.id.as_bytes()[..], profile)).collect();
    published::put(tx, &documents)?;
    let references: BTreeMap<String, PartnerReference> = references(partners);
    let documents: Vec<(&[u8], &PartnerReference)> =
        references.iter().map(|(text, owner)| (text.as_bytes(), owner)).collect();
    published::put(tx, &documents)
}

/// Whom each external reference of these partners names, by its text.
pub(crate) fn references(partners: &[PartnerView]) -> BTreeMap<String, PartnerReference> {
    let of_one = |partner: &PartnerView| {
        let owner = PartnerReference { partner_id: partner.id };
        partner.external_refs.iter().map(|reference| (reference.to_string(), owner.clone())).collect::<Vec<_>>()
    };
    partners.iter().flat_map(of_one).collect()
}

/// Checks the references that partner `id` is to have. Faults: `invalid`, `partner_reference_taken`.
pub(crate) fn check_references(tx: &Tx<'_>, id: PartnerId, references: &[Reference]) -> Result<()> {
    let refuse = |pointer: String, detail: &str| Err(Fault::at(&kernel::problems::INVALID, pointer, detail));
    if references.len() > MOST_REFERENCES {
        return refuse("/external_refs".to_owned(), "at most 20 external references are possible");
    }
    let texts: Vec<String> = references.iter().map(Reference::to_string).collect();
    for (index, reference) in references.iter().enumerate() {
        // A fact names a partner as `system:id`, which must have one reading.
        if reference.system.as_str().contains(':') {
            return refuse(format!("/external_refs/{index}/system"), "a system's name must not contain a colon");
        }
    }
    if texts.iter().collect::<BTreeSet<_>>().len() < texts.len() {
        return refuse("/external_refs".to_owned(), "an external reference stands here twice");
    }
    let keys: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let owners = published::get::<PartnerReference>(tx, &keys)?;
    let taken = texts.iter().position(|text| owners.get(text.as_bytes()).is_some_and(|owner| owner.partner_id != id));
    match taken {
        Some(index) => {
            let detail = format!("{} names another partner", texts[index]);
            Err(Fault::at(&problems::PARTNER_REFERENCE_TAKEN, format!("/external_refs/{index}"), detail))
        }
        None => Ok(()),
    }
}

/// Checks that no other partner of the kind has the address. Fault: `email_taken`.
pub(crate) fn check_email(tx: &Tx<'_>, id: PartnerId, kind: PartnerKind, email: &Email) -> Result<()> {
    let compared = compared(email);
    let sql = "SELECT id FROM partner WHERE kind = ? AND email = ?";
    let owner = tx.query_one(sql, &[kind.as_str().into(), (&compared).into()], |row| row.id(0))?;
    if owner.is_some_and(|owner| owner != id) {
        // The owner is not named: whoever may apply must not learn who else has.
        let detail = format!("another {kind} has this e-mail address");
        return Err(Fault::at(&problems::EMAIL_TAKEN, "/email", detail));
    }
    Ok(())
}

/// Checks the size of the metadata. Fault: `invalid`.
pub(crate) fn check_metadata(metadata: &serde_json::Map<String, serde_json::Value>) -> Result<()> {
    let size = serde_json::to_string(metadata).map_err(Fault::internal)?.len();
    if size > MOST_METADATA_BYTES {
        let detail = format!("{size} bytes as JSON; at most {MOST_METADATA_BYTES} are possible");
        return Err(Fault::at(&kernel::problems::INVALID, "/metadata", detail));
    }
    Ok(())
}
