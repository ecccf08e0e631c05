//! The SQL façade: values, rows, and the statements that a context may send. No driver type escapes. The portable subset
//! is described in ARCHITECTURE.md: ids made by the application, integers for money and time, no RETURNING, no `now()`,
//! keyset paging, every aggregate CAST.

use std::sync::atomic::Ordering;

use kernel::{Fault, Id, Result, Timestamp};
use serde::de::DeserializeOwned;

use crate::connection::{self, Cell, Connection};
use crate::db::Stats;

/// A parameter; each kind has its own null, because servers want to know the type of a null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value<'a> {
    /// A 64-bit integer: numbers, money, time.
    Int(Option<i64>),
    /// Text: keys, names, JSON.
    Text(Option<&'a str>),
    /// Bytes: ids, digests.
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.as_micros()))
    }
}
impl From<Option<Timestamp>> for Value<'_> {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Int(value.map(Timestamp::as_micros))
    }
}
impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}
impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value))
    }
}
impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}
impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value))
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Bytes(Some(value))
    }
}
impl<'a, const N: usize> From<Option<&'a [u8; N]>> for Value<'a> {
    fn from(value: Option<&'a [u8; N]>) -> Self {
        Self::Bytes(value.map(|bytes| bytes.as_slice()))
    }
}
impl<'a, K> From<&'a Id<K>> for Value<'a> {
    fn from(value: &'a Id<K>) -> Self {
        Self::Bytes(Some(value.as_bytes()))
    }
}
impl<'a, K> From<Option<&'a Id<K>>> for Value<'a> {
    fn from(value: Option<&'a Id<K>>) -> Self {
        Self::Bytes(value.map(|id| id.as_bytes().as_slice()))
    }
}

/// A row of a result; columns are numbered from 0 in the order of the SELECT. A column of another type than asked for
/// is a defect (`internal`).
pub enum Row<'r> {
    #[doc(hidden)]
    Sqlite(&'r rusqlite::Row<'r>),
    #[doc(hidden)]
    Postgres(&'r postgres::Row),
    #[doc(hidden)]
    Mysql(&'r mysql::Row),
}

impl Row<'_> {
    pub(crate) fn cell(&self, column: usize) -> Result<Cell<'_>> {
        match self {
            Self::Sqlite(row) => connection::sqlite::cell(row, column),
            Self::Postgres(row) => connection::postgres::cell(row, column),
            Self::Mysql(row) => connection::mysql::cell(row, column),
        }
    }

    /// An integer.
    pub fn int(&self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| Fault::internal(format!("column {column} is null")))
    }

    /// An integer or null.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>> {
        match self.cell(column)? {
            Cell::Int(value) => Ok(Some(value)),
            Cell::Null => Ok(None),
            other => Err(Fault::internal(format!("column {column} is no integer: {other:?}"))),
        }
    }

    /// An instant.
    pub fn time(&self, column: usize) -> Result<Timestamp> {
        self.int(column).map(Timestamp::from_micros)
    }

    /// An instant or null.
    pub fn opt_time(&self, column: usize) -> Result<Option<Timestamp>> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    /// Text.
    pub fn text(&self, column: usize) -> Result<&str> {
        self.opt_text(column)?.ok_or_else(|| Fault::internal(format!("column {column} is null")))
    }

    /// Text or null.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>> {
        match self.cell(column)? {
            Cell::Text(text) => Ok(Some(text)),
            Cell::Null => Ok(None),
            other => Err(Fault::internal(format!("column {column} is no text: {other:?}"))),
        }
    }

    /// Text that names a value of an enum.
    pub fn name<T: std::str::FromStr<Err = String>>(&self, column: usize) -> Result<T> {
        self.text(column)?.parse().map_err(|error| Fault::internal(format!("column {column}: {error}")))
    }

    /// JSON text as a typed document.
    pub fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T> {
        serde_json::from_str(self.text(column)?).map_err(|error| Fault::internal(format!("column {column}: {error}")))
    }

    /// Bytes.
    pub fn bytes(&self, column: usize) -> Result<&[u8]> {
        self.opt_bytes(column)?.ok_or_else(|| Fault::internal(format!("column {column} is null")))
    }

    /// Bytes or null.
    pub fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>> {
        match self.cell(column)? {
            Cell::Bytes(bytes) => Ok(Some(bytes)),
            Cell::Null => Ok(None),
            other => Err(Fault::internal(format!("column {column} is not bytes: {other:?}"))),
        }
    }

    /// Sixteen bytes.
    pub fn bytes16(&self, column: usize) -> Result<[u8; 16]> {
        self.opt_bytes16(column)?.ok_or_else(|| Fault::internal(format!("column {column} is null")))
    }

    /// Sixteen bytes or null.
    pub fn opt_bytes16(&self, column: usize) -> Result<Option<[u8; 16]>> {
        let Some(bytes) = self.opt_bytes(column)? else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| Fault::internal(format!("column {column} is not 16 bytes")))
    }

    /// Hands out the column's kind and content as bytes that cannot be mistaken for another value's.
    pub(crate) fn canonical(&self, column: usize, mut part: impl FnMut(&[u8])) -> Result<()> {
        let mut long = |tag: u8, bytes: &[u8]| {
            part(&[tag]);
            part(&(bytes.len() as u64).to_be_bytes());
            part(bytes);
        };
        match self.cell(column)? {
            Cell::Null => part(&[0]),
            Cell::Int(value) => {
                part(&[1]);
                part(&value.to_be_bytes());
            }
            Cell::Text(text) => long(2, text.as_bytes()),
            Cell::Bytes(bytes) => long(3, bytes),
        }
        Ok(())
    }

    /// An id.
    pub fn id<K>(&self, column: usize) -> Result<Id<K>> {
        self.bytes16(column).map(Id::from_bytes)
    }

    /// An id or null.
    pub fn opt_id<K>(&self, column: usize) -> Result<Option<Id<K>>> {
        Ok(self.opt_bytes16(column)?.map(Id::from_bytes))
    }
}

/// What an insert does with a row whose key is there already.
#[derive(Debug, Clone, Copy)]
pub enum OnDuplicate<'a> {
    /// It fails the transaction: the caller has made sure.
    Fail,
    /// The row that is there stays. Ask "is my id there?" to learn which it was.
    Ignore,
    /// The columns that are not in the key take the new values.
    Replace {
        /// The columns of the unique key.
        key: &'a [&'a str],
    },
    /// The columns that are not in the key are numbers and grow by the new values.
    Add {
        /// The columns of the unique key.
        key: &'a [&'a str],
    },
}

/// Read access: inside a transaction or beside it.
pub struct Reader<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) stats: &'c Stats,
}

impl Reader<'_> {
    /// The rows of a SELECT with `?` parameters.
    pub fn query<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.stats.statements.fetch_add(1, Ordering::Relaxed);
        self.connection.query(sql, params.iter(), |row| {
            found.push(map(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The only row of a SELECT, if there is one.
    pub fn query_one<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.query(sql, params, map)?.into_iter().next())
    }

    /// The rows of a SELECT whose last parameter is a list of keys, `key IN (?*)` or `(a, b) IN (?*)`; in chunks of
    /// 512. A key that is named twice has its rows once. The order of rows is that of the SELECT within each chunk.
    pub fn query_in<T, const N: usize>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        keys: &[[Value<'_>; N]],
        mut map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut keys = std::borrow::Cow::Borrowed(keys);
        if keys.len() > 512 {
            // Two chunks must not name the same key.
            keys.to_mut().sort_unstable();
            keys.to_mut().dedup();
        }
        for chunk in keys.chunks(512) {
            self.stats.statements.fetch_add(1, Ordering::Relaxed);
            self.connection.query_in(sql, params, chunk, |row| {
                found.push(map(row)?);
                Ok(())
            })?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
