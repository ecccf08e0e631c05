//! Faults: what went wrong, in words for the caller, with a stable code. Each crate lists its problems as constants, from
//! which the page of problems is generated; the web crate maps a kind to an HTTP status once.

use std::fmt;

use serde::Serialize;

/// What a caller can do about it; decides the HTTP status and whether to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read (400).
    Malformed,
    /// No valid credentials (401).
    Unauthenticated,
    /// Valid credentials without the needed scope (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// The path exists, with other methods (405).
    MethodNotAllowed,
    /// It contradicts what is (409).
    Conflict,
    /// The body is larger than allowed (413).
    TooLarge,
    /// The content type is not understood (415).
    UnsupportedMedia,
    /// The request can be read, but its content is not acceptable (422).
    Unprocessable,
    /// Too much at once; try again later (429).
    Overloaded,
    /// The database cannot be written just now; try again later (503).
    Unavailable,
    /// A defect of ours (500).
    Internal,
}

/// One entry of the catalogue of problems.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Decides the status.
    pub kind: Kind,
    /// Stable, snake_case: programs branch on it.
    pub code: &'static str,
    /// What it means, one sentence.
    pub title: &'static str,
    /// What to do about it, one sentence.
    pub remedy: &'static str,
}

impl Problem {
    /// An entry of the catalogue.
    pub const fn new(kind: Kind, code: &'static str, title: &'static str, remedy: &'static str) -> Self {
        Self { kind, code, title, remedy }
    }
}

/// One place of the request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request's body; empty for the whole.
    pub pointer: String,
    /// What is wrong there and what is expected.
    pub detail: String,
}

/// What went wrong.
#[derive(Clone)]
pub struct Fault {
    problem: &'static Problem,
    detail: String,
    errors: Vec<FieldError>,
    cause: Option<std::sync::Arc<str>>,
}

/// A result whose error is a `Fault`.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A fault with words for the caller.
    pub fn new(problem: &'static Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), errors: Vec::new(), cause: None }
    }

    /// A fault that points at one place of the request.
    pub fn at(problem: &'static Problem, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let errors = vec![FieldError { pointer: pointer.into(), detail: detail.clone() }];
        Self { problem, detail, errors, cause: None }
    }

    /// A defect of ours: the cause is logged, never shown.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(&problems::INTERNAL, "something went wrong on our side").caused_by(cause)
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string().into());
        self
    }

    /// Moves every pointer below `prefix`: a bulk item's pointer becomes the request's.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, prefix);
        }
        self
    }

    /// The entry of the catalogue.
    pub const fn problem(&self) -> &'static Problem {
        self.problem
    }

    /// The kind.
    pub const fn kind(&self) -> Kind {
        self.problem.kind
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        self.problem.code
    }

    /// Words for the caller.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The places that are wrong.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Words for the log, if there are any.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.detail)?;
        for error in self.errors.iter().filter(|error| !error.pointer.is_empty()) {
            write!(f, " (at {})", error.pointer)?;
        }
        if let Some(cause) = &self.cause {
            write!(f, " [{cause}]")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Fault {}

/// The problems that any context may meet.
pub mod problems {
    use super::{Kind, Problem};

    /// A defect of ours.
    pub const INTERNAL: Problem = Problem::new(
        Kind::Internal,
        "internal",
        "Something went wrong on our side.",
        "Send the request id to the operator; the log has the cause.",
    );
    /// An action that the state does not allow.
    pub const ILLEGAL_TRANSITION: Problem = Problem::new(
        Kind::Conflict,
        "illegal_transition",
        "The current state does not allow this action.",
        "Read the current state; the detail lists the actions that it allows.",
    );
    /// Two currencies meet.
    pub const CURRENCY_MISMATCH: Problem = Problem::new(
        Kind::Unprocessable,
        "currency_mismatch",
        "Two currencies met where one is needed.",
        "Send the amount in the campaign's currency.",
    );
    /// Out of the range of 64 bits.
    pub const AMOUNT_OVERFLOW: Problem = Problem::new(
        Kind::Unprocessable,
        "amount_overflow",
        "An amount leaves the range of 64-bit minor units.",
        "Send a smaller amount.",
    );
    /// Below zero.
    pub const AMOUNT_NEGATIVE: Problem = Problem::new(
        Kind::Unprocessable,
        "amount_negative",
        "The amount is below zero.",
        "Send zero or more; use a refund to take back.",
    );
    /// Content that is not acceptable.
    pub const INVALID: Problem = Problem::new(
        Kind::Unprocessable,
        "invalid",
        "The request can be read, but a value in it is not acceptable.",
        "Correct the places that errors[] points at.",
    );
    /// There is no such thing.
    pub const NOT_FOUND: Problem =
        Problem::new(Kind::NotFound, "not_found", "There is no such thing.", "Check the id and the path.");
    /// The stored version moved on.
    pub const STALE: Problem = Problem::new(
        Kind::Conflict,
        "stale",
        "Somebody else changed it at the same time.",
        "Read it again and repeat the request.",
    );
    /// The database cannot be written.
    pub const UNAVAILABLE: Problem = Problem::new(
        Kind::Unavailable,
        "unavailable",
        "The database cannot take the request just now.",
        "Repeat the request after the time in Retry-After; nothing was changed.",
    );
}

/// The kernel's entries of the catalogue of problems.
pub const PROBLEMS: &[&Problem] = &[
    &problems::INTERNAL,
    &problems::ILLEGAL_TRANSITION,
    &problems::CURRENCY_MISMATCH,
    &problems::AMOUNT_OVERFLOW,
    &problems::AMOUNT_NEGATIVE,
    &problems::INVALID,
    &problems::NOT_FOUND,
    &problems::STALE,
    &problems::UNAVAILABLE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_points_at_places_and_keeps_its_cause_for_the_log() {
        let fault = Fault::at(&problems::INVALID, "/amount", "expected more").below("/items/3").caused_by("a secret");
        assert_eq!((fault.code(), fault.kind(), fault.detail()), ("invalid", Kind::Unprocessable, "expected more"));
        assert_eq!(fault.errors()[0].pointer, "/items/3/amount");
        assert_eq!(fault.to_string(), "invalid: expected more (at /items/3/amount) [a secret]");
        assert!(!Fault::internal("a secret").detail().contains("secret"), "the caller does not see it");
    }

    #[test]
    fn every_problem_has_its_own_code_and_says_what_to_do() {
        let mut codes: Vec<&str> = PROBLEMS.iter().map(|problem| problem.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), PROBLEMS.len());
        assert!(PROBLEMS.iter().all(|problem| problem.title.ends_with('.') && problem.remedy.ends_with('.')));
    }
}
