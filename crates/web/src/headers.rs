//! The headers that a client may send with a request, each with its limits.

use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use kernel::{Fault, Result, problems};

use crate::problem::UNSUPPORTED_MEDIA;

/// A request waits this long at most for the reactions to it.
const LONGEST_WAIT_SECONDS: u64 = 30;
/// Characters of a key or a correlation id at most.
const LONGEST: usize = 200;

/// What the client sent along.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// `Idempotency-Key`: a repeat gets the stored reply.
    pub(crate) idempotency_key: Option<String>,
    /// `X-Correlation-Id` or `correlationid`: kept with the events.
    pub(crate) correlation_id: Option<String>,
    /// `Prefer: wait=N`: wait so long for the reactions.
    pub(crate) wait: Option<Duration>,
}

impl Sent {
    /// Reads the headers. Fault: `invalid`, which names the header.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self> {
        let correlation_id = match visible(headers, "x-correlation-id")? {
            None => visible(headers, "correlationid")?,
            found => found,
        };
        Ok(Self { idempotency_key: visible(headers, "idempotency-key")?, correlation_id, wait: wait(headers) })
    }
}

/// A header of 1 to 200 visible ASCII characters.
fn visible(headers: &HeaderMap, name: &'static str) -> Result<Option<String>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=LONGEST).contains(&text.len()));
    match text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Fault::at(
            &problems::INVALID,
            format!("/headers/{name}"),
            format!("the header {name} must be 1 to {LONGEST} visible ASCII characters without spaces"),
        )),
    }
}

/// The wait that is preferred; a preference that is not understood is ignored (RFC 7240).
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse::<u64>().ok())?
    })?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT_SECONDS)))
}

/// What `Preference-Applied` says about a wait.
pub(crate) fn applied(wait: Duration) -> HeaderValue {
    HeaderValue::from_str(&format!("wait={}", wait.as_secs())).expect("digits are visible ASCII")
}

/// Fault: `unsupported_media_type`, unless the body is JSON in UTF-8.
pub(crate) fn is_json(headers: &HeaderMap) -> Result<()> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if is_json && is_utf8 {
        return Ok(());
    }
    Err(Fault::new(&UNSUPPORTED_MEDIA, "the body must be application/json in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn keys_are_short_and_visible() {
        let read = |value: &str| Sent::read(&headers(&[("idempotency-key", value)]));
        assert_eq!(read("a-1").unwrap().idempotency_key.unwrap(), "a-1");
        for bad in ["", "a b", "a\tb", &"x".repeat(201)] {
            assert_eq!(read(bad).unwrap_err().errors()[0].pointer, "/headers/idempotency-key", "{bad:?}");
        }
    }

    #[test]
    fn correlation_ids_have_two_names() {
        let read = |name, value| Sent::read(&headers(&[(name, value)])).unwrap().correlation_id;
        assert_eq!(read("x-correlation-id", "c"), Some("c".to_owned()));
        assert_eq!(read("correlationid", "c"), Some("c".to_owned()));
        assert_eq!(read("x-other", "c"), None);
    }

    #[test]
    fn waits_are_capped_and_nonsense_is_ignored() {
        let read = |value| wait(&headers(&[("prefer", value)])).map(|wait| wait.as_secs());
        assert_eq!(read("wait=5"), Some(5));
        assert_eq!(read("respond-async, Wait=\"7\""), Some(7));
        assert_eq!(read("wait=86400"), Some(30));
        for ignored in ["wait", "wait=", "wait=-1", "wait=soon", "respond-async"] {
            assert_eq!(read(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn only_json_in_utf8() {
        let accepts = |value| is_json(&headers(&[("content-type", value)])).is_ok();
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\""] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["text/plain", "application/jsonp", "application/json; charset=utf-16", ""] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
