//! MariaDB's global transaction ids: the last one of each domain is a place in the binary log. It must not know what the
//! transactions did.

use std::collections::BTreeMap;
use std::fmt;

use kernel::{Fault, Result};

use crate::connect::refused;

/// The last transaction of each domain: `0-1-57`, or several with commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Gtids(BTreeMap<u32, (u32, u64)>);

impl Gtids {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = || -> Fault { refused(format!("{text:?} is no place in a binary log: expected such as 0-1-57")) };
        let one = |text: &str| {
            let mut parts = text.trim().split('-');
            let (domain, server, sequence) = (parts.next()?, parts.next()?, parts.next()?);
            parts.next().is_none().then_some(())?;
            Some((domain.parse().ok()?, (server.parse().ok()?, sequence.parse().ok()?)))
        };
        let ids = text.split(',').filter(|text| !text.trim().is_empty());
        ids.map(|text| one(text).ok_or_else(bad)).collect::<Result<_>>().map(Self)
    }

    /// Moves on to a transaction.
    pub(super) fn reach(&mut self, domain: u32, server: u32, sequence: u64) {
        self.0.insert(domain, (server, sequence));
    }

    /// Whether it is at `other` or behind it in every domain.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(domain, (_, sequence))| self.0.get(domain).is_some_and(|(_, mine)| mine >= sequence))
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(|(domain, (server, sequence))| format!("{domain}-{server}-{sequence}"));
        f.write_str(&ids.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_written_and_compared() {
        let place = Gtids::parse("0-1-57,3-2-9").unwrap();
        assert_eq!(place.to_string(), "0-1-57,3-2-9");
        assert!(place.covers(&Gtids::parse("0-4-57").unwrap()) && place.covers(&Gtids::default()));
        for later in ["0-1-58", "1-1-1", "0-1-1,3-2-10"] {
            assert!(!place.covers(&Gtids::parse(later).unwrap()), "{later}");
        }
        assert_eq!(Gtids::parse("").unwrap(), Gtids::default());
        for wrong in ["0-1", "0-1-2-3", "a-b-c", "0/1F"] {
            assert_eq!(Gtids::parse(wrong).unwrap_err().code(), "database_refused", "{wrong}");
        }
    }
}
