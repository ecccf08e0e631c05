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
const MOST_REDIRECTIONS: usize = 5;
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
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
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
        let mut url = format!("{}/admin/v2/{path}", self.options.admin_url.trim_end_matches('/'));
        let text = body.map(Value::to_string).unwrap_or_default();
        // In a cluster the broker that was asked points at the one that has the topic. The HTTP client would go there
        // without the token, or without the body.
        for _ in 0..MOST_REDIRECTIONS {
            let mut request = ureq::http::Request::builder().method(method.clone()).uri(&url);
            if let Some(token) = &self.options.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let request = request.header("Content-Type", "application/json").body(text.clone());
            let request = request.map_err(|error| self.unavailable(&url, &error))?;
            let response = self.agent.run(request).map_err(|error| self.unavailable(&url, &error))?;
            let elsewhere = response.headers().get("location").and_then(|place| place.to_str().ok());
            match (response.status().as_u16(), elsewhere) {
                (302 | 307 | 308, Some(place)) => url = place.to_owned(),
                _ => return Ok((url, response)),
            }
        }
        Err(self.unavailable(&url, &"the brokers point at each other"))
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the broker of this test answers on a thread of its own")]
    fn a_redirection_takes_method_token_and_body_along() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let broker = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in [
                format!(
                    "HTTP/1.1 307 x\r\nLocation: http://{place}/owner\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ),
                "HTTP/1.1 204 x\r\nConnection: close\r\n\r\n".to_owned(),
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head: Vec<String> = Vec::new();
                while head.last().is_none_or(|line| line != "\r\n") {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    head.push(line);
                }
                let mut body = [0; 2];
                reader.read_exact(&mut body).unwrap();
                asked.push((head.concat(), body));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let mut options = Options::new("pulsar://nobody", format!("http://{place}"));
        options.token = Some("a-token".to_owned());
        Admin::new(&options).put("things/1", &serde_json::json!({})).unwrap();
        let asked = broker.join().unwrap();
        for ((head, body), line) in asked.iter().zip(["PUT /admin/v2/things/1 ", "PUT /owner "]) {
            assert!(head.starts_with(line) && head.to_lowercase().contains("authorization: bearer a-token"), "{head}");
            assert_eq!(body, b"{}");
        }
        assert_eq!(asked.len(), 2);
    }
}
