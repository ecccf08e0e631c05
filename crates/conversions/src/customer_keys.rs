//! Customers without names: a digest of the customer's reference that is keyed with a salt of this installation. Events
//! and indexes carry the key; whoever has neither the salt nor the row learns nothing from it.

use kernel::{Result, digest16};
use platform::{Db, Lane, OnDuplicate};

/// Turns customer references into keys.
#[derive(Clone)]
pub struct CustomerKeys {
    salt: [u8; 32],
}

impl CustomerKeys {
    /// The installation's keys; the first call makes the salt and stores it. Faults: those of the database.
    pub fn load_or_create(db: &Db) -> Result<Self> {
        let fresh: [u8; 32] = db.random();
        db.write("customer_salt", Lane::Front, "system", |tx| {
            let row = [1.into(), (&fresh).into()];
            tx.insert("customer_salt", ["id", "salt"], &[row], OnDuplicate::Ignore)?;
            let sql = "SELECT salt FROM customer_salt WHERE id = 1";
            let stored = tx.query_one(sql, &[], |row| Ok(row.bytes(0)?.try_into().unwrap_or(fresh)))?;
            Ok(Self { salt: stored.unwrap_or(fresh) })
        })
    }

    pub(crate) fn key(&self, customer_ref: &str) -> [u8; 16] {
        digest16(&[&self.salt, customer_ref.as_bytes()])
    }
}

impl std::fmt::Debug for CustomerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomerKeys")
    }
}
