//! The broker's admin REST interface, as far as it is needed here.

use std::io::Read;
use std::time::Duration;

use kernel::Result;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Method;

use crate::faults;
use crate::options::Options;

/// Creating a partitioned topic or a namespace on a busy broker takes seconds.
const LIMIT: Duration = Duration::from_secs(30);
const LARGEST_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

pub(crate) struct Admin<'o> {
    options: &'o Options,
    agent: Agent,
}

impl<'o> Admin<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        let config = Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).build();
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
        self.change(Method::PUT, path, Some(body))
    }

    /// Sends `body` to `path`.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<()> {
        self.change(Method::POST, path, Some(body))
    }

    fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        match self.call(method, path, body)? {
            (200..=299 | 409, _) => Ok(()),
            answer => Err(self.refused(path, &answer)),
        }
    }

    /// Sends `body` to `path` and answers status and text.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let url = format!("{}/admin/v2/{path}", self.options.admin_url.trim_end_matches('/'));
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if let Some(token) = &self.options.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.header("Content-Type", "application/json").body(text);
        let request = request.map_err(|error| self.unavailable(&url, &error))?;
        let response = self.agent.run(request).map_err(|error| self.unavailable(&url, &error))?;
        let status = response.status().as_u16();
        let mut text = String::new();
        let mut body = response.into_body().into_reader().take(LARGEST_ANSWER_BYTES);
        body.read_to_string(&mut text).map_err(|error| self.unavailable(&url, &error))?;
        Ok((status, text))
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
        let reason = reason.as_ref().and_then(|answer| answer["reason"].as_str()).unwrap_or(text);
        let reason: String = reason.chars().take(300).collect();
        let remedy = match status {
            401 | 403 => "the token is missing, wrong or not allowed to do this",
            _ => "the admin interface refuses",
        };
        faults::refused(self.options, &format!("{path}: {remedy}: status {status}, {reason}"), "admin interface")
    }
}
