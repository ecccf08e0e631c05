//! What can go wrong with a broker, in words that say what to do.

use kernel::{Fault, Kind, Problem};
use pulsar::error::{ConnectionError, ProducerError};
use pulsar::proto::ServerError;

use crate::options::Options;

const UNAVAILABLE: Problem = Problem::new(
    Kind::Unavailable,
    "broker_unavailable",
    "The broker cannot be reached, or did not answer in time.",
    "Check that the broker runs and that its address is right; the relay comes again by itself, and nothing is lost.",
);

const REFUSED: Problem = Problem::new(
    Kind::Conflict,
    "broker_refused",
    "The broker, or this program, refuses what was asked: repeating it does not help.",
    "Correct what the detail names: the token, the topic, its schema or its limits.",
);

/// This crate's entries of the catalogue of problems.
pub fn problems() -> Vec<&'static Problem> {
    vec![&UNAVAILABLE, &REFUSED]
}

/// Whether a fault is the broker's and not somebody else's.
pub(crate) fn is_ours(fault: &Fault) -> bool {
    problems().iter().any(|problem| problem.code == fault.code())
}

/// The broker is not there, or not in time.
pub(crate) fn unavailable(options: &Options, what: &str, cause: impl std::fmt::Display) -> Fault {
    let detail = format!("broker {}: {what}", options.service_url);
    Fault::new(&UNAVAILABLE, detail).caused_by(cause)
}

/// Repeating it does not help.
pub(crate) fn refused(options: &Options, what: &str, cause: impl std::fmt::Display) -> Fault {
    let detail = format!("broker {}: {what}", options.service_url);
    Fault::new(&REFUSED, detail).caused_by(cause)
}

/// The fault of a driver's error: `what` says what was tried.
pub(crate) fn of(options: &Options, what: &str, error: &pulsar::Error) -> Fault {
    let (kind, words) = match error {
        pulsar::Error::Connection(ConnectionError::PulsarError(kind, words))
        | pulsar::Error::Producer(ProducerError::Connection(ConnectionError::PulsarError(kind, words)))
        | pulsar::Error::ServiceDiscovery(pulsar::error::ServiceDiscoveryError::Query(kind, words)) => (*kind, words),
        _ => return unavailable(options, &format!("{what}: it cannot be reached or does not answer"), error),
    };
    let remedy = match kind {
        Some(ServerError::IncompatibleSchema) => "the topic has another schema: run the setup of topics again",
        Some(ServerError::TopicNotFound | ServerError::InvalidTopicName) => {
            "there is no such topic: run the setup of topics"
        }
        Some(ServerError::AuthenticationError | ServerError::AuthorizationError) => {
            "the token is missing, wrong or not allowed to do this"
        }
        Some(ServerError::TopicTerminatedError) => "the topic was terminated: delete it and run the setup of topics",
        Some(ServerError::NotAllowedError) => "the broker does not allow it",
        _ => return unavailable(options, &format!("{what}: {}", words.as_deref().unwrap_or("no reason given")), error),
    };
    let words = words.as_deref().and_then(|words| words.lines().next()).unwrap_or("no reason given");
    refused(options, &format!("{what}: {remedy} ({words})"), error)
}
