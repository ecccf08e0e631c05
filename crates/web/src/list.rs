//! Lists: the parameters that every list takes, the page that it answers, and cursors. A cursor is signed and belongs to
//! one list, so that a client can neither make one up nor carry one over.

use kernel::{Fault, Result, digest16};
use platform::{Page, Paged};
use serde::{Deserialize, Serialize};

use crate::extract::{Get, parameter_fault};
use crate::problem::CURSOR_INVALID;

/// Items of a page at most.
pub(crate) const LONGEST_PAGE: i64 = 500;
/// Items of a page when nothing is asked for.
const USUAL_PAGE: i64 = 50;

kernel::names! {
    /// Which end comes first.
    pub enum Order {
        /// Oldest first.
        Ascending = "asc",
        /// Newest first.
        Descending = "desc",
    }
}

/// The parameters that every list takes.
#[derive(Debug)]
pub(crate) struct Paging {
    pub(crate) limit: Option<i64>,
    pub(crate) cursor: Option<String>,
    pub(crate) order: Option<Order>,
    pub(crate) include_total: Option<bool>,
}

/// Defines the query of a list: its own parameters, then those of every list.
macro_rules! list_parameters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(crate) struct $name {
            $($(#[$field_doc])* $field: Option<$type>,)*
            /// Items at most; 50 when absent.
            #[param(minimum = 1, maximum = 500)]
            limit: Option<i64>,
            /// `next_cursor` of the page before.
            cursor: Option<String>,
            /// Oldest first (`asc`, the default) or newest first (`desc`).
            #[param(inline)]
            order: Option<crate::list::Order>,
            /// Count all items that meet the conditions.
            include_total: Option<bool>,
        }
        impl $name {
            /// The parameters that every list takes.
            fn paging(&mut self) -> crate::list::Paging {
                crate::list::Paging {
                    limit: self.limit,
                    cursor: self.cursor.take(),
                    order: self.order,
                    include_total: self.include_total,
                }
            }
        }
    };
}
pub(crate) use list_parameters;

/// A list to be paged: which one, and whose signature its cursors carry.
pub(crate) struct Pager {
    path: String,
    secret: [u8; 32],
}

impl Pager {
    /// The list that is asked for.
    pub(crate) fn of<P, const SCOPE: u8>(get: &Get<P, SCOPE>) -> Self {
        Self { path: get.path.clone(), secret: get.state.cursor_secret }
    }

    /// The page that is asked for. Faults: `invalid`, `cursor_invalid`.
    pub(crate) fn page(&self, paging: &Paging) -> Result<Page> {
        Ok(Page {
            after: paging.cursor.as_deref().map(|cursor| self.open(cursor)).transpose()?,
            limit: limit(paging.limit)?,
            descending: paging.order == Some(Order::Descending),
            include_total: paging.include_total == Some(true),
        })
    }

    /// The page as answered.
    pub(crate) fn list<T>(&self, page: Paged<T>) -> List<T> {
        let next_cursor = page.next.map(|key| self.seal(&key));
        List { items: page.items, has_more: next_cursor.is_some(), next_cursor, total: page.total }
    }

    fn sign(&self, key: &[u8; 16]) -> [u8; 16] {
        digest16(&[b"cursor", &self.secret, self.path.as_bytes(), key])
    }

    fn seal(&self, key: &[u8; 16]) -> String {
        kernel::hex(&[key.as_slice(), &self.sign(key)].concat())
    }

    /// The key in a cursor. Fault: `cursor_invalid`.
    pub(crate) fn open(&self, cursor: &str) -> Result<[u8; 16]> {
        use subtle::ConstantTimeEq as _;
        let invalid = || Fault::new(&CURSOR_INVALID, "the cursor was not given out by this list");
        let bytes: [u8; 32] = unhex(cursor).and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?;
        let (key, signature) = bytes.split_first_chunk::<16>().ok_or_else(invalid)?;
        let is_ours: bool = self.sign(key).ct_eq(signature).into();
        if is_ours { Ok(*key) } else { Err(invalid()) }
    }
}

/// The number of items that is asked for. Fault: `invalid`.
pub(crate) fn limit(asked: Option<i64>) -> Result<i64> {
    match asked {
        None => Ok(USUAL_PAGE),
        Some(limit @ 1..=LONGEST_PAGE) => Ok(limit),
        Some(_) => Err(parameter_fault("limit", "expected 1 to 500")),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct List<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// Whether there is a next page.
    pub(crate) has_more: bool,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
    /// How many items meet the conditions, when `include_total=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_belong_to_one_list_of_one_installation() {
        let pager = |path: &str, secret: u8| Pager { path: path.to_owned(), secret: [secret; 32] };
        let ours = pager("/v1/partners", 1);
        let cursor = ours.seal(&[7; 16]);
        assert_eq!(ours.open(&cursor).unwrap(), [7; 16]);
        assert_eq!(pager("/v1/campaigns", 1).open(&cursor).unwrap_err().code(), "cursor_invalid");
        assert_eq!(pager("/v1/partners", 2).open(&cursor).unwrap_err().code(), "cursor_invalid");
        for index in 0..cursor.len() {
            let mut tampered = cursor.clone().into_bytes();
            tampered[index] = if tampered[index] == b'0' { b'1' } else { b'0' };
            let tampered = String::from_utf8(tampered).unwrap();
            assert_eq!(ours.open(&tampered).unwrap_err().code(), "cursor_invalid", "{index}");
        }
        for bad in ["", "0", "zz", "é", &cursor[2..], &format!("{cursor}00"), &cursor.to_uppercase()] {
            assert!(ours.open(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_a_page() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(500)).unwrap(), 500);
        for bad in [0, -1, 501, i64::MAX] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }
}
