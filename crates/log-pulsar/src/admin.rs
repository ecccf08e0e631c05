//! The broker's admin REST interface, as far as it is needed here.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use kernel::Result;
use serde_json::Value;
use ureq::http::{Method, Response};
use ureq::{Agent, Body};

use crate::faults;
use crate::options::Options;

/// Creating a partitioned topic or a namespace on a busy broker takes seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// A question in the middle of work must not hold it up for long.
const ASIDE_LIMIT: Duration = Duration::from_secs(3);
const LARGEST_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

pub(crate) struct Admin<'o> {
    options: &'o Options,
    agent: Agent,
}

/// A message as the admin interface shows it.
pub(crate) struct Shown {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl<'o> Admin<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self::within(options, LIMIT)
    }

    /// For questions in the middle of work.
    pub(crate) fn aside(options: &'o Options) -> Self {
        Self::within(options, ASIDE_LIMIT)
    }

    fn within(options: &'o Options, limit: Duration) -> Self {
        let config = Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).build();
        Self { options, agent: config.new_agent() }
    }

    /// What stands at `path` below `/admin/v2/`; none when there is nothing.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, path, None)? {
            (200, text) => serde_json::from_str(&text).map(Some).map_err(|error| self.unreadable(path, &error)),
            (404, _) => Ok(None),
            answer => Err(self.refused(path, &answer)),
        }
    }

    /// Creates or changes what stands at `path`; it is no error that it is there already.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<()> {
        match self.call(Method::PUT, path, Some(body))? {
            (200..=299 | 409, _) => Ok(()),
            answer => Err(self.refused(path, &answer)),
        }
    }

    /// Sends `body` to `path`.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<()> {
        match self.call(Method::POST, path, Some(body))? {
            (200..=299, _) => Ok(()),
            answer => Err(self.refused(path, &answer)),
        }
    }

    /// The headers and the body of what stands at `path`; none when there is nothing.
    pub(crate) fn look(&self, path: &str) -> Result<Option<Shown>> {
        let (url, response) = self.send(Method::GET, path, None)?;
        if response.status().as_u16() != 200 {
            return Ok(None);
        }
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(LARGEST_ANSWER_BYTES);
        reader.read_to_end(&mut body).map_err(|error| self.unavailable(&url, &error))?;
        Ok(Some(Shown { headers, body }))
    }

    /// Sends `body` to `path` and answers status and text.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let (url, response) = self.send(method, path, body)?;
        let status = response.status().as_u16();
        let mut text = String::new();
        let mut body = response.into_body().into_reader().take(LARGEST_ANSWER_BYTES);
        body.read_to_string(&mut text).map_err(|error| self.unavailable(&url, &error))?;
        Ok((status, text))
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(String, Response<Body>)> {
        let url = format!("{}/admin/v2/{path}", self.options.admin_url.trim_end_matches('/'));
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if let Some(token) = &self.options.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.header("Content-Type", "application/json").body(text);
        let request = request.map_err(|error| self.unavailable(&url, &error))?;
        let response = self.agent.run(request).map_err(|error| self.unavailable(&url, &error))?;
        Ok((url, response))
    }

    fn unavailable(&self, url: &str, error: &dyn std::fmt::Display) -> kernel::Fault {
        faults::unavailable(self.options, &format!("its admin interface {url} cannot be reached"), error)
    }

    fn unreadable(&self, path: &str, error: &dyn std::fmt::Display) -> kernel::Fault {
        faults::refused(
            self.options,
            &format!("{path}: the admin interface's answer is no JSON: is it a Pulsar?"),
            error,
        )
    }

    pub(crate) fn refused(&self, path: &str, (status, text): &(u16, String)) -> kernel::Fault {
        let reason = serde_json::from_str::<Value>(text).ok();
        let reason = reason.as_ref().and_then(|answer| answer["reason"].as_str());
        // Some answers are a page: its title says what is wrong, with more than anybody wants to read after the first line.
        let title = text.split_once("<title>").and_then(|(_, rest)| rest.split(['\n', '<']).next());
        let reason: String = reason.or(title).unwrap_or(text).chars().take(300).collect();
        let remedy = match status {
            401 | 403 => "the token is missing, wrong or not allowed to do this",
            409 => "something else is there already: use the encoding that the topic has, or another namespace",
            _ => "the admin interface refuses",
        };
        faults::refused(self.options, &format!("{path}: {remedy}: status {status}, {reason}"), "admin interface")
    }
}
