//! A suspended partner's commissions wait at the end of their hold; reinstatement or termination makes them due again.

use std::collections::BTreeMap;

use kernel::{EventRecord, Fault, PartnerId, Result};
use platform::{Tx, Value};

use crate::commission::WAITS_FOR_PARTNER;

/// Makes due, as of the event, what waited for its partner.
pub(crate) fn react(tx: &mut Tx<'_>, run: &[EventRecord]) -> Result<()> {
    // The first event of a partner makes everything due that waits; the next one finds nothing.
    let mut partners: BTreeMap<PartnerId, &EventRecord> = BTreeMap::new();
    for record in run {
        partners.entry(record.subject.parse().map_err(Fault::internal)?).or_insert(record);
    }
    let rows: Vec<[Value<'_>; 3]> = partners
        .iter()
        .map(|(partner, record)| [record.time.into(), WAITS_FOR_PARTNER.into(), partner.into()])
        .collect();
    tx.update_many("commission", &["due_at"], &["due_at", "partner_id"], &rows).map(|_| ())
}
