//! The replication protocol of PostgreSQL over one TCP connection: log in, START_REPLICATION, read what is copied, say
//! what is confirmed. It must not know what a change holds.
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use kernel::{Fault, Result};
use platform::{Endpoint, tls_refusal};
use postgres::fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{COPY_DATA_TAG, Header, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::garbled;
use crate::PUBLICATION;
use crate::connect::{PATIENCE, lost, refused};

/// The answer to START_REPLICATION, which `postgres-protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';
/// What is asked of the kernel at once.
const CHUNK_BYTES: usize = 64 << 10;
/// No row of the log is as large; a length beyond it is garbage.
const LARGEST_BYTES: usize = 256 << 20;
/// What a relay may spend in its sink without reading, and how fast a vanished reader is noticed all the same.
const OPTIONS: &str = "-c wal_sender_timeout=5min -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 \
                       -c tcp_keepalives_count=3 -c statement_timeout=0 -c client_encoding=UTF8";

/// What arrives once replication runs.
pub(super) enum Copied<'b> {
    /// A message of the output plug-in; `end` is where the server's log ended then.
    Change { data: &'b [u8], end: u64 },
    /// The server has told everything up to `end`.
    KeepAlive { end: u64, wants_reply: bool },
}

/// A connection, encrypted or not.
enum Socket {
    Plain(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    const fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Encrypted(stream) => &stream.sock,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Encrypted(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes),
            Self::Encrypted(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

pub(super) struct Wire {
    socket: Socket,
    buffer: Vec<u8>,
    /// What of the buffer is read, and how much of it is filled.
    start: usize,
    filled: usize,
}

impl Wire {
    /// Logs in and begins to replicate, from where the slot stands.
    pub(super) fn replicate(endpoint: &Endpoint, slot: &str) -> Result<Self> {
        let mut wire = Self { socket: connect(endpoint)?, buffer: vec![0; 4 * CHUNK_BYTES], start: 0, filled: 0 };
        wire.log_in(endpoint)?;
        // Place 0/0 is the slot's own: a place remembered elsewhere could lie ahead of a restored server.
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 \
             (proto_version '1', publication_names '\"{PUBLICATION}\"', binary 'true')"
        );
        wire.send(|out| frontend::query(&command, out))?;
        loop {
            match wire.message()? {
                None => return Ok(wire),
                Some(Message::ErrorResponse(body)) => return Err(server_fault(&body)),
                Some(_) => {}
            }
        }
    }

    fn log_in(&mut self, endpoint: &Endpoint) -> Result<()> {
        let (user, password) = (endpoint.user.as_str(), endpoint.password.as_bytes());
        let parameters = [
            ("user", user),
            ("database", endpoint.database.as_str()),
            ("replication", "database"),
            ("application_name", "alpes cdc"),
            ("options", OPTIONS),
        ];
        self.send(|out| frontend::startup_message(parameters, out))?;
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        loop {
            match self.message()? {
                Some(Message::AuthenticationCleartextPassword) => {
                    self.send(|out| frontend::password_message(password, out))?;
                }
                Some(Message::AuthenticationMd5Password(body)) => {
                    let hash = postgres_protocol::authentication::md5_hash(user.as_bytes(), password, body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                Some(Message::AuthenticationSasl(body)) => {
                    if !body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256)).map_err(garbled)? {
                        return Err(garbled("no way to log in that is known here"));
                    }
                    self.send(|out| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out))?;
                }
                Some(Message::AuthenticationSaslContinue(body)) => {
                    scram.update(body.data()).map_err(garbled)?;
                    self.send(|out| frontend::sasl_response(scram.message(), out))?;
                }
                Some(Message::AuthenticationSaslFinal(body)) => scram.finish(body.data()).map_err(garbled)?,
                Some(Message::ReadyForQuery(_)) => return Ok(()),
                Some(Message::ErrorResponse(body)) => return Err(server_fault(&body)),
                Some(
                    Message::AuthenticationOk
                    | Message::ParameterStatus(_)
                    | Message::BackendKeyData(_)
                    | Message::NoticeResponse(_),
                ) => {}
                _ => return Err(garbled("an unknown step of the log-in")),
            }
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
        let mut out = BytesMut::new();
        write(&mut out).map_err(garbled)?;
        self.socket.write_all(&out).map_err(|error| lost(&error))
    }

    /// Waits for one message before replication runs; nothing for the one with which it begins.
    fn message(&mut self) -> Result<Option<Message>> {
        while self.frame()?.is_none() {
            if !self.read(PATIENCE)? {
                return Err(lost(&"the server does not answer"));
            }
        }
        let length = self.frame()?.map_or(0, |(_, length)| length);
        let mut bytes = BytesMut::from(&self.buffer[self.start..self.start + length]);
        self.start += length;
        if bytes[0] == COPY_BOTH_TAG { Ok(None) } else { Message::parse(&mut bytes).map_err(garbled) }
    }

    /// Tag and length of the message that the buffer holds as a whole.
    fn frame(&self) -> Result<Option<(u8, usize)>> {
        let bytes = &self.buffer[self.start..self.filled];
        let Some(header) = Header::parse(bytes).map_err(garbled)? else { return Ok(None) };
        let length = usize::try_from(header.len()).map_err(garbled)? + 1;
        if length > LARGEST_BYTES {
            return Err(garbled(format!("a message of {length} bytes")));
        }
        Ok((bytes.len() >= length).then_some((header.tag(), length)))
    }

    /// The next message that has arrived as a whole.
    pub(super) fn buffered(&mut self) -> Result<Option<Copied<'_>>> {
        let Some((tag, length)) = self.frame()? else { return Ok(None) };
        let from = self.start;
        self.start += length;
        let message = &self.buffer[from..from + length];
        if tag != COPY_DATA_TAG {
            return match Message::parse(&mut BytesMut::from(message)).map_err(garbled)? {
                Some(Message::ErrorResponse(body)) => Err(server_fault(&body)),
                _ => Err(lost(&"the server has ended the stream")),
            };
        }
        let number = |at: usize| {
            let bytes = message.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or_else(|| garbled("a message too short"))
        };
        match message.get(5) {
            // kind, start, end of the log, clock; then the data
            Some(b'w') => {
                let data = message.get(30..).ok_or_else(|| garbled("a change too short"))?;
                Ok(Some(Copied::Change { data, end: number(6)? }))
            }
            // kind, end of the log, clock, whether to answer
            Some(b'k') => Ok(Some(Copied::KeepAlive { end: number(6)?, wants_reply: message.get(22) == Some(&1) })),
            _ => Err(garbled("an unknown kind of copied data")),
        }
    }

    /// Waits for bytes; answers whether some came.
    pub(super) fn read(&mut self, at_most: Duration) -> Result<bool> {
        if self.start == self.filled {
            (self.start, self.filled) = (0, 0);
            // What one large row needed is given back.
            self.buffer.truncate(4 * CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        } else if self.buffer.len() - self.filled < CHUNK_BYTES {
            self.buffer.copy_within(self.start..self.filled, 0);
            (self.start, self.filled) = (0, self.filled - self.start);
            if self.buffer.len() - self.filled < CHUNK_BYTES {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let at_most = at_most.max(Duration::from_micros(1));
        self.socket.tcp().set_read_timeout(Some(at_most)).map_err(|error| lost(&error))?;
        match self.socket.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err(lost(&"the server closed the connection")),
            Ok(count) => {
                self.filled += count;
                Ok(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(error) => Err(lost(&error)),
        }
    }

    /// Tells the server how far we have read and what it may forget.
    pub(super) fn status(&mut self, seen: u64, confirmed: u64, wants_reply: bool) -> Result<()> {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(seen);
        body.put_u64(confirmed);
        body.put_u64(confirmed);
        // The sender's clock, which the server only shows.
        body.put_i64(0);
        body.put_u8(wants_reply.into());
        self.send(|out| {
            frontend::CopyData::new(body)?.write(out);
            Ok(())
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The slot becomes free at once instead of when the server notices.
        let _ = self.send(|out| {
            frontend::copy_done(out);
            frontend::terminate(out);
            Ok(())
        });
    }
}

fn connect(endpoint: &Endpoint) -> Result<Socket> {
    let tcp = dial(endpoint)?;
    match endpoint.tls.client()? {
        None => Ok(Socket::Plain(tcp)),
        Some(client) => encrypt(tcp, endpoint, client),
    }
}

/// Asks the server to encrypt, and shakes hands.
fn encrypt(mut tcp: TcpStream, endpoint: &Endpoint, client: ClientConfig) -> Result<Socket> {
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    let mut answer = [0];
    tcp.set_read_timeout(Some(PATIENCE)).map_err(|error| lost(&error))?;
    tcp.write_all(&out).and_then(|()| tcp.read_exact(&mut answer)).map_err(|error| lost(&error))?;
    if answer != *b"S" {
        return Err(refused("the server does not encrypt: set `ssl = on` in postgresql.conf and reload"));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| refused(error.to_string()))?;
    let connection = ClientConnection::new(Arc::new(client), name).map_err(|error| refused(error.to_string()))?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .map_err(|error| tls_refusal(&error).unwrap_or_else(|| lost(&error)))?;
    }
    Ok(Socket::Encrypted(Box::new(stream)))
}

fn dial(endpoint: &Endpoint) -> Result<TcpStream> {
    let mut last = lost(&"the server's name has no address");
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs().map_err(|error| lost(&error))? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(|error| lost(&error))?;
                socket.set_write_timeout(Some(PATIENCE)).map_err(|error| lost(&error))?;
                return Ok(socket);
            }
            Err(error) => last = lost(&error),
        }
    }
    Err(last)
}

/// What an error of the server means for a reader of its log.
fn server_fault(body: &postgres_protocol::message::backend::ErrorResponseBody) -> Fault {
    let (mut code, mut words) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => words = value,
            _ => {}
        }
    }
    super::admin::fault_of(&code, &words)
}
