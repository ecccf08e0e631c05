//! Who asks, and what they may do: scopes, the actor of a request, and the two ways in. The check of a scope is part of
//! a handler's signature ([`Actor`] by `Command` and `Get`), so that it stands before the body is read.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use kernel::{Fault, Result};

use crate::keys::KeyCache;
use crate::problem::{FOREIGN_PAGE, SCOPE_MISSING, UNAUTHENTICATED};

kernel::names! {
    /// What a key may do. `<group>:*` means every scope of a group, `*` all of them.
    pub enum Scope {
        /// Read partners.
        PartnersRead = "partners:read",
        /// Create and change partners.
        PartnersWrite = "partners:write",
        /// Read campaigns and enrolments.
        CampaignsRead = "campaigns:read",
        /// Create and change campaigns, terms, budgets, enrolments.
        CampaignsWrite = "campaigns:write",
        /// Read conversions and their attribution.
        ConversionsRead = "conversions:read",
        /// Record touches, conversions, refunds.
        ConversionsWrite = "conversions:write",
        /// Attribute a conversion by hand.
        ConversionsAttribute = "conversions:attribute",
        /// Send one-off terms with a conversion.
        TermsOverride = "terms:override",
        /// Read commissions and explanations.
        CommissionsRead = "commissions:read",
        /// Hold, release and reject commissions.
        CommissionsWrite = "commissions:write",
        /// Approve commissions.
        CommissionsApprove = "commissions:approve",
        /// Read payouts and their items.
        PayoutsRead = "payouts:read",
        /// Create, submit and cancel payouts.
        PayoutsWrite = "payouts:write",
        /// Approve payouts.
        PayoutsApprove = "payouts:approve",
        /// Read adjustments.
        AdjustmentsRead = "adjustments:read",
        /// Request adjustments.
        AdjustmentsWrite = "adjustments:write",
        /// Approve adjustments.
        AdjustmentsApprove = "adjustments:approve",
        /// Read accounts, entries, balances.
        LedgerRead = "ledger:read",
        /// Read reports and statements.
        ReportsRead = "reports:read",
        /// Read events, statistics, what is parked, dead letters.
        EventsRead = "events:read",
        /// Replay and skip dead letters.
        OperationsWrite = "operations:write",
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes(u64);

impl Scopes {
    /// Every scope.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// The scopes that these texts name: a scope, `<group>:*`, or `*`. The error names the text that is none.
    pub(crate) fn parse(texts: &[String]) -> std::result::Result<Self, String> {
        let mut bits = 0;
        for text in texts {
            let named: u64 = Scope::ALL
                .iter()
                .filter(|scope| text == "*" || text == scope.as_str() || is_group(text, **scope))
                .map(|&scope| 1 << scope as u8)
                .sum();
            if named == 0 {
                let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                return Err(format!("{text:?} is no scope; there are *, <group>:* and {}", known.join(", ")));
            }
            bits |= named;
        }
        Ok(Self(bits))
    }

    const fn has(self, scope: u8) -> bool {
        self.0 & (1 << scope) != 0
    }
}

fn is_group(text: &str, scope: Scope) -> bool {
    text.strip_suffix('*').is_some_and(|group| group.ends_with(':') && scope.as_str().starts_with(group))
}

/// Who asks: the name that stands in events and entries, and what it may do.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// The key's name.
    pub(crate) name: Arc<str>,
    scopes: Scopes,
}

impl Actor {
    /// An actor with these scopes.
    pub(crate) const fn new(name: Arc<str>, scopes: Scopes) -> Self {
        Self { name, scopes }
    }

    /// Fault: `scope_missing`.
    pub(crate) fn need(&self, scope: u8) -> Result<()> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        let name = Scope::ALL.iter().find(|known| **known as u8 == scope).map_or("", |known| known.as_str());
        Err(Fault::new(&SCOPE_MISSING, format!("the key {:?} needs the scope {name}", self.name)))
    }
}

/// The two ways in.
#[derive(Debug, Clone)]
pub enum Access {
    /// Every request needs an API key: the default.
    Keys,
    /// For the demo on loopback: no key is needed, and who sends none acts as `actor`, with every scope. A key that is
    /// sent must be valid. Requests of web pages and under other host names are refused, because any page that a
    /// browser on this machine shows could send them.
    Open {
        /// Who acts when no key is sent.
        actor: Arc<str>,
    },
}

/// Who asks, by the headers. Faults: `unauthenticated`, `foreign_page`.
pub(crate) fn authenticate(
    access: &Access,
    keys: &KeyCache,
    now: kernel::Timestamp,
    headers: &HeaderMap,
) -> Result<Actor> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return match access {
            Access::Keys => Err(Fault::new(&UNAUTHENTICATED, "the Authorization header is missing")),
            Access::Open { actor } if is_local(headers) => Ok(Actor::new(actor.clone(), Scopes::ALL)),
            Access::Open { .. } => Err(Fault::new(&FOREIGN_PAGE, "the Host or Origin header names another machine")),
        };
    };
    let token = header.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token
        .and_then(|token| keys.find(token, now))
        .ok_or_else(|| Fault::new(&UNAUTHENTICATED, "the key is unknown, revoked or expired"))
}

/// Whether the request names this machine, and a page that sends it comes from this machine.
fn is_local(headers: &HeaderMap) -> bool {
    let names_this_machine = |authority: &str| {
        let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let host = host.map_or(authority, |(host, _)| host);
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST);
    let origin = text(ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, authority)| authority));
    host.is_none_or(names_this_machine) && (origin.is_none() || origin == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> std::result::Result<Scopes, String> {
        Scopes::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn scopes_by_name_group_and_star() {
        let may = |texts: &[&str], scope: Scope| scopes(texts).unwrap().has(scope as u8);
        assert!(may(&["partners:read"], Scope::PartnersRead));
        assert!(!may(&["partners:read"], Scope::PartnersWrite));
        assert!(may(&["partners:*"], Scope::PartnersWrite) && !may(&["partners:*"], Scope::PayoutsWrite));
        assert!(Scope::ALL.iter().all(|&scope| may(&["*"], scope)));
        for bad in ["", "partners", "partners*", ":*", "partners:delete", "p:*"] {
            assert!(scopes(&["*", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_open_server_answers_only_this_machine() {
        let local = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_local(&headers.collect())
        };
        assert!(local(&[]));
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
            assert!(local(&[("host", host)]), "{host}");
        }
        for host in ["example.com", "localhost.example.com:8080", "10.0.0.1:8080", ""] {
            assert!(!local(&[("host", host)]), "{host}");
        }
        assert!(local(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(!local(&[("host", "localhost:8080"), ("origin", "https://example.com")]));
        assert!(!local(&[("host", "localhost:8080"), ("origin", "null")]));
    }
}
