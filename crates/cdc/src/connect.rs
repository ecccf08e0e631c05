//! Plain connections to the servers, for questions in SQL beside a stream, and what becomes of drivers' errors. It must
//! not know the protocols of replication.

use std::time::Duration;

use kernel::{Fault, Result, problems};
use mysql::{Conn, OptsBuilder};
use platform::{DATABASE_REFUSED, Endpoint, Location, tls_refusal};
use postgres::{Client, Config};

/// How long a connection may take to be made, and a question to be answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The server behind a location, when it has a log of changes and the stream's name can be part of a slot's.
pub(crate) fn endpoint(location: &Location, name: &str) -> Result<Endpoint> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(plain) {
        return Err(refused(format!("a stream is named by up to 40 of a-z, 0-9 and _, not {name:?}")));
    }
    location
        .endpoint()
        .ok_or_else(|| refused(format!("{location} has no log of changes that can be read over TCP: relay by polling")))
}

pub(crate) fn postgres(endpoint: &Endpoint) -> Result<Client> {
    let mut config = Config::new();
    config
        .host(&endpoint.host)
        .port(endpoint.port)
        .user(&endpoint.user)
        .password(&endpoint.password)
        .dbname(&endpoint.database)
        .connect_timeout(PATIENCE)
        .options("-c statement_timeout=10s -c lock_timeout=5s");
    endpoint.tls.postgres(config)?.map_err(|error| tls_refusal(&error).unwrap_or_else(|| lost(&error)))
}

pub(crate) fn mariadb(endpoint: &Endpoint, read_timeout: Duration) -> Result<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(&endpoint.host))
        .tcp_port(endpoint.port)
        .user(Some(&endpoint.user))
        .pass(Some(&endpoint.password))
        .db_name(Some(&endpoint.database))
        .prefer_socket(false)
        .ssl_opts(endpoint.tls.mysql())
        .tcp_connect_timeout(Some(PATIENCE))
        .read_timeout(Some(read_timeout));
    Conn::new(options).map_err(|error| tls_refusal(&error).unwrap_or_else(|| lost(&error)))
}

/// The server is away, or said something that only time can mend.
pub(crate) fn lost(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(&problems::UNAVAILABLE, "the database's log of changes cannot be read just now").caused_by(error)
}

pub(crate) fn refused(detail: impl Into<String>) -> Fault {
    Fault::new(&DATABASE_REFUSED, detail)
}
