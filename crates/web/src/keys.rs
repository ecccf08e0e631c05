//! API keys: 32 random bytes, shown once, stored as their SHA-256. The key's name is the actor of everything that is
//! done with it; two live keys of one name are one actor, so that a key can be exchanged without a gap.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kernel::{ApiKeyId, Fault, Key, Kind, Problem, Result, Timestamp, problems};
use platform::{OnDuplicate, Reader, Tx, Value};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::{Actor, Scopes};

const UNKNOWN: Problem = Problem::new(
    Kind::NotFound,
    "key_not_found",
    "There is no API key with this id.",
    "List the keys with `alpes keys list`.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&UNKNOWN];

/// Names that the house uses itself.
const RESERVED: [&str; 2] = ["system", "cli"];

/// A key to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    name: Key,
    scopes: Vec<String>,
    expires_in_days: Option<u32>,
}

impl NewKey {
    /// A key named `name` with `scopes` (`partners:read`, `campaigns:*`, `*`, …), for ever or for some days. Fault:
    /// `invalid`, which says what.
    pub fn parse(name: &str, scopes: &[String], expires_in_days: Option<u32>) -> Result<Self> {
        let invalid = |pointer: &str, detail: String| Fault::at(&problems::INVALID, pointer, detail);
        let name = Key::new(name).map_err(|detail| invalid("/name", format!("the name {detail}")))?;
        if RESERVED.contains(&name.as_str()) {
            return Err(invalid("/name", format!("the name {name} is used by alpes itself")));
        }
        if scopes.is_empty() {
            return Err(invalid("/scopes", "at least one scope is needed".to_owned()));
        }
        Scopes::parse(scopes).map_err(|detail| invalid("/scopes", detail))?;
        Ok(Self { name, scopes: scopes.to_vec(), expires_in_days })
    }
}

/// A key as listed: everything but the secret.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    /// Its id.
    pub id: ApiKeyId,
    /// The actor.
    pub name: String,
    /// How the key begins, to recognise it by.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// A key as created: the only time that the secret is shown.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedKey {
    /// What to send as `Authorization: Bearer …`.
    pub key: String,
    /// The key without its secret.
    #[serde(flatten)]
    pub view: KeyView,
}

fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The id's 26 characters, without the prefix of its kind.
fn bare(id: ApiKeyId) -> String {
    let text = id.to_string();
    text.split_once('_').map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// Stores a key with these random bytes and shows it.
pub fn create(tx: &mut Tx<'_>, new: &NewKey, secret: [u8; 32]) -> Result<CreatedKey> {
    let id: ApiKeyId = tx.new_id();
    let prefix = format!("alp_{}", bare(id));
    let key = format!("{prefix}_{}", kernel::hex(&secret));
    let scopes = serde_json::to_string(&new.scopes).map_err(Fault::internal)?;
    let expires_at = new.expires_in_days.map(|days| tx.now().plus_days(days));
    let secret_digest = digest(kernel::hex(&secret).as_bytes());
    let row: [Value<'_>; 7] = [
        (&id).into(),
        new.name.as_str().into(),
        (&prefix).into(),
        (&secret_digest).into(),
        (&scopes).into(),
        tx.now().into(),
        expires_at.into(),
    ];
    let columns = ["id", "name", "shown", "secret_digest", "scopes", "created_at", "expires_at"];
    tx.insert("api_key", columns, &[row], OnDuplicate::Fail)?;
    let (name, scopes, created_at) = (new.name.to_string(), new.scopes.clone(), tx.now());
    Ok(CreatedKey { key, view: KeyView { id, name, prefix, scopes, created_at, expires_at, revoked_at: None } })
}

const COLUMNS: &str = "id, name, shown, scopes, created_at, expires_at, revoked_at, secret_digest";

fn stored(reader: &Reader<'_>) -> Result<Vec<(KeyView, Vec<u8>)>> {
    reader.query(&format!("SELECT {COLUMNS} FROM api_key ORDER BY id"), &[], |row| {
        let view = KeyView {
            id: row.id(0)?,
            name: row.text(1)?.to_owned(),
            prefix: row.text(2)?.to_owned(),
            scopes: row.json(3)?,
            created_at: row.time(4)?,
            expires_at: row.opt_time(5)?,
            revoked_at: row.opt_time(6)?,
        };
        Ok((view, row.bytes(7)?.to_vec()))
    })
}

/// Every key, oldest first; also those that were revoked.
pub fn list(reader: &Reader<'_>) -> Result<Vec<KeyView>> {
    Ok(stored(reader)?.into_iter().map(|(view, _)| view).collect())
}

/// Takes a key back; a key that is revoked already stays so. A running server notices within five seconds. Fault:
/// `key_not_found`.
pub fn revoke(tx: &mut Tx<'_>, id: ApiKeyId) -> Result<()> {
    let known = tx.query_one("SELECT id FROM api_key WHERE id = ?", &[(&id).into()], |row| row.id::<()>(0))?;
    if known.is_none() {
        return Err(Fault::new(&UNKNOWN, format!("{id} is not a key")));
    }
    let now = tx.now();
    tx.execute("UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", &[now.into(), (&id).into()])?;
    Ok(())
}

#[derive(Debug)]
struct Known {
    secret_digest: Vec<u8>,
    actor: Actor,
    expires_at: Option<Timestamp>,
}

/// The live keys in memory, so that a request costs no query.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(RwLock<BTreeMap<String, Known>>);

impl KeyCache {
    /// Takes over what the table holds.
    pub(crate) fn load(&self, reader: &Reader<'_>) -> Result<()> {
        let mut known = BTreeMap::new();
        for (view, secret_digest) in stored(reader)?.into_iter().filter(|(view, _)| view.revoked_at.is_none()) {
            // A scope that this version does not know gives nothing; the key's other scopes stand.
            let texts = view.scopes.into_iter().filter(|text| Scopes::parse(std::slice::from_ref(text)).is_ok());
            let scopes = Scopes::parse(&texts.collect::<Vec<_>>()).map_err(Fault::internal)?;
            let actor = Actor::new(Arc::from(view.name), scopes);
            known.insert(bare(view.id), Known { secret_digest, actor, expires_at: view.expires_at });
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The actor whose key this is. The time it takes does not depend on how much of the secret is right.
    pub(crate) fn find(&self, token: &str, now: Timestamp) -> Option<Actor> {
        let (id, secret) = token.strip_prefix("alp_")?.split_once('_')?;
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(id)?;
        let is_right: bool = known.secret_digest.ct_eq(&digest(secret.as_bytes())).into();
        let is_live = known.expires_at.is_none_or(|end| now < end);
        (is_right && is_live).then(|| known.actor.clone())
    }
}
