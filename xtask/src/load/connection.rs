//! One keep-alive HTTP/1.1 connection, and the little of the protocol that a load generator needs.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A reply, as far as it was read.
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    /// Whether a `Retry-After` header came with it.
    pub(crate) retry_after: bool,
    /// Whether it is `application/problem+json`.
    pub(crate) problem: bool,
    pub(crate) body: &'a [u8],
}

/// The start of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) problem: bool,
    /// Bytes up to the body.
    pub(crate) length: usize,
    /// Bytes of the body.
    pub(crate) body_length: usize,
}

/// Reads the head of a reply; `None` while it is incomplete.
///
/// # Errors
/// When it is not HTTP/1.1 or has a body of unknown length.
pub(crate) fn parse_head(received: &[u8]) -> Result<Option<Head>> {
    let Some(length) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..length]).map_err(|_| invalid("a head that is not text"))?;
    let mut lines = head.split("\r\n");
    let start = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or_else(|| invalid("no HTTP/1.1"))?;
    let status = start.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| invalid("no status"))?;
    let mut found = Head { status, retry_after: false, problem: false, length: length + 4, body_length: 0 };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            found.body_length = value.parse().map_err(|_| invalid("no length"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("a chunked reply"));
        } else if name.eq_ignore_ascii_case("retry-after") {
            found.retry_after = true;
        } else if name.eq_ignore_ascii_case("content-type") {
            found.problem = value.starts_with("application/problem+json");
        }
    }
    Ok(Some(found))
}

/// The bytes of a request; `headers` are whole lines, each ended by CR LF.
pub(crate) fn render(method: &str, path: &str, headers: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The value of `content-length` among the lines of a request's head.
pub(crate) fn parse_content_length(head: &str) -> Option<usize> {
    let headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut lengths = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok())
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the reply has {what}"))
}

/// One connection, used by one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: vec![0; 4096] })
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// When the connection breaks: the outcome of the request is then unknown.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Reply<'_>> {
        self.send(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.receive(filled).await?;
            if let Some(head) = parse_head(&self.received[..filled])? {
                break head;
            }
        };
        let end = head.length + head.body_length;
        while filled < end {
            filled += self.receive(filled).await?;
        }
        let body = &self.received[head.length..end];
        Ok(Reply { status: head.status, retry_after: head.retry_after, problem: head.problem, body })
    }

    async fn send(&mut self, request: &[u8]) -> Result<()> {
        let mut sent = 0;
        while sent < request.len() {
            match self.stream.try_write(&request[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn receive(&mut self, filled: usize) -> Result<usize> {
        if filled == self.received.len() {
            self.received.resize(2 * filled, 0);
        }
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut self.received[filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let reply = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\n{}";
        assert_eq!(parse_head(&reply[..60]).unwrap(), None);
        let head = parse_head(reply).unwrap().unwrap();
        let expected = Head { status: 429, retry_after: true, problem: true, length: reply.len() - 2, body_length: 2 };
        assert_eq!(head, expected);
    }

    #[test]
    fn a_reply_without_a_known_length_is_refused() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_err());
    }
}
