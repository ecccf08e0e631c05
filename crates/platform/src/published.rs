//! Published tables `pub_*`: reference data that its owner writes in its own transaction and that any context reads
//! inside its own, by key. Never stale, and never a join into another's insides. Each is a table (key, doc).

use std::collections::BTreeMap;

use kernel::{Fault, Published, Result};

use crate::sql::{OnDuplicate, Reader, Value};
use crate::tx::Tx;

/// The statements that create the published table `name`, for the owner's migration.
#[macro_export]
macro_rules! published_table {
    ($name:literal) => {
        concat!("CREATE TABLE ", $name, " (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};\n")
    };
}

/// Writes documents under their keys, replacing what was there.
pub fn put<T: Published>(tx: &mut Tx<'_>, documents: &[(&[u8], &T)]) -> Result<()> {
    let texts: Vec<String> = documents
        .iter()
        .map(|(_, document)| serde_json::to_string(document).map_err(Fault::internal))
        .collect::<Result<_>>()?;
    let rows: Vec<[Value<'_>; 2]> =
        documents.iter().zip(&texts).map(|((key, _), text)| [(*key).into(), text.into()]).collect();
    tx.insert(T::TABLE, ["doc_key", "doc"], &rows, OnDuplicate::Replace { key: &["doc_key"] })
}

/// The documents under these keys; a key that is not there is missing from the answer.
pub fn get<T: Published>(reader: &Reader<'_>, keys: &[&[u8]]) -> Result<BTreeMap<Vec<u8>, T>> {
    let keys: Vec<[Value<'_>; 1]> = keys.iter().map(|key| [(*key).into()]).collect();
    let sql = format!("SELECT doc_key, doc FROM {} WHERE doc_key IN (?*)", T::TABLE);
    Ok(reader.query_in(&sql, &[], &keys, |row| Ok((row.bytes(0)?.to_vec(), row.json(1)?)))?.into_iter().collect())
}

/// The document under this key.
pub fn get_one<T: Published>(reader: &Reader<'_>, key: &[u8]) -> Result<Option<T>> {
    Ok(get(reader, &[key])?.into_values().next())
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Lane;
    use crate::testing::in_memory;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }
    impl Published for Thing {
        const TABLE: &'static str = "pub_thing";
    }

    #[test]
    fn documents_are_put_replaced_and_found_by_key() {
        let db = in_memory();
        let thing = |name: &str| Thing { name: name.to_owned() };
        let keys: Vec<Vec<u8>> = (0..600_u16).map(|n| n.to_be_bytes().to_vec()).collect();
        let things: Vec<Thing> = (0..600).map(|n| thing(&n.to_string())).collect();
        let documents: Vec<(&[u8], &Thing)> = keys.iter().map(Vec::as_slice).zip(&things).collect();
        db.write("test", Lane::Front, "tester", |tx| {
            put(tx, &documents)?;
            put(tx, &[(&keys[1], &thing("new"))])?;
            assert_eq!(get_one::<Thing>(tx, &keys[1])?, Some(thing("new")), "in the same transaction");
            Ok(())
        })
        .unwrap();
        db.read(|reader| {
            assert_eq!(get_one::<Thing>(reader, b"missing")?, None);
            let mut asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            asked.push(b"missing");
            let found = get::<Thing>(reader, &asked)?;
            assert_eq!((found.len(), &found[&keys[1]], &found[&keys[599]]), (600, &thing("new"), &thing("599")));
            Ok(())
        })
        .unwrap();
    }
}
