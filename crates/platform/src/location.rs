//! Where the database is: a directory with a SQLite file, or the URL of a server.

use std::path::{Path, PathBuf};

use kernel::{Fault, Kind, Problem, Result};

use crate::connection::{Connection, MysqlConnection, PostgresConnection};
use crate::dialect::Dialect;
use crate::tls::Tls;

const BAD_URL: Problem = Problem::new(
    Kind::Unprocessable,
    "bad_database_url",
    "The URL of the database is not one that Alpes understands.",
    "Use sqlite:DIRECTORY, postgres://user:password@host/database or mysql://user:password@host/database, with \
     ?sslmode=require or ?sslmode=verify-full&sslrootcert=FILE where the connection is to be encrypted.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&BAD_URL];

/// What another client needs to reach the same server (change data capture speaks its replication protocol). It holds
/// the password, so it cannot be shown.
pub struct Endpoint {
    /// Whether PostgreSQL is there; otherwise MariaDB or MySQL.
    pub is_postgres: bool,
    /// The name or address of its host.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Its password; empty when there is none.
    pub password: String,
    /// The database.
    pub database: String,
    /// How connections are encrypted.
    pub tls: Tls,
}

/// Where the database is. Shown without its password.
#[derive(Debug, Clone)]
pub struct Location(pub(crate) Place);

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Directory(PathBuf),
    Postgres(Box<Server<postgres::Config>>),
    Mysql(Box<Server<mysql::Opts>>),
}

/// A server, and how connections to it are encrypted.
#[derive(Debug, Clone)]
pub(crate) struct Server<O> {
    pub(crate) options: O,
    pub(crate) tls: Tls,
}

impl Location {
    /// The SQLite file `alpes.db` in a directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self(Place::Directory(path.into()))
    }

    /// Reads `sqlite:`, `sqlite:DIRECTORY`, `postgres://…` or `mysql://…`; `directory` is where `sqlite:` alone points.
    /// Fault: `bad_database_url`; its detail never repeats the URL, which may hold a password.
    pub fn parse(url: &str, directory: &Path) -> Result<Self> {
        let bad = |error: &dyn std::fmt::Display| Fault::new(&BAD_URL, format!("the database's URL: {error}"));
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::directory(if path.is_empty() { directory } else { Path::new(path) }));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // A Unix socket is named by a parameter.
            let (url, tls) = Tls::of(url, &["host"]).map_err(|error| bad(&error))?;
            tls.client()?;
            let options: postgres::Config = url.parse().map_err(|error| bad(&error))?;
            return Ok(Self(Place::Postgres(Box::new(Server { options, tls }))));
        }
        if let Some(rest) = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://")) {
            let (rest, tls) = Tls::of(rest, &[]).map_err(|error| bad(&error))?;
            tls.client()?;
            let options = mysql::Opts::from_url(&format!("mysql://{rest}")).map_err(|error| bad(&error))?;
            return Ok(Self(Place::Mysql(Box::new(Server { options, tls }))));
        }
        Err(bad(&"it begins with none of sqlite:, postgres:// and mysql://"))
    }

    /// Whether a server is behind it, which several processes can share.
    pub const fn is_server(&self) -> bool {
        !matches!(self.0, Place::Directory(_))
    }

    /// How another client reaches the server; nothing for a directory, or a server behind a Unix socket.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match &self.0 {
            Place::Directory(_) => None,
            Place::Postgres(server) => {
                let config = &server.options;
                let Some(postgres::config::Host::Tcp(host)) = config.get_hosts().first() else { return None };
                let user = config.get_user()?.to_owned();
                Some(Endpoint {
                    is_postgres: true,
                    host: host.clone(),
                    port: config.get_ports().first().copied().unwrap_or(5_432),
                    password: String::from_utf8(config.get_password().unwrap_or_default().to_vec()).ok()?,
                    database: config.get_dbname().unwrap_or(&user).to_owned(),
                    user,
                    tls: server.tls.clone(),
                })
            }
            Place::Mysql(server) => {
                let opts = &server.options;
                Some(Endpoint {
                    is_postgres: false,
                    host: opts.get_ip_or_hostname().into_owned(),
                    port: opts.get_tcp_port(),
                    user: opts.get_user().unwrap_or_default().to_owned(),
                    password: opts.get_pass().unwrap_or_default().to_owned(),
                    database: opts.get_db_name()?.to_owned(),
                    tls: server.tls.clone(),
                })
            }
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Place::Directory(path) => write!(f, "sqlite:{}", path.display()),
            Place::Postgres(server) => {
                let config = &server.options;
                let host = config.get_hosts().first().map(|host| match host {
                    postgres::config::Host::Tcp(name) => name.clone(),
                    postgres::config::Host::Unix(path) => path.display().to_string(),
                });
                let port = config.get_ports().first().copied().unwrap_or(5_432);
                let database = config.get_dbname().unwrap_or_default();
                write!(f, "postgres://{}:{port}/{database}", host.unwrap_or_default())
            }
            Place::Mysql(server) => {
                let opts = &server.options;
                let database = opts.get_db_name().unwrap_or_default();
                write!(f, "mysql://{}:{}/{database}", opts.get_ip_or_hostname(), opts.get_tcp_port())
            }
        }
    }
}

impl Place {
    /// A connection to a server, after its settings were looked at when it is to write.
    pub(crate) fn connect(&self, writes: bool) -> Result<Connection> {
        match self {
            Self::Directory(path) => Err(Fault::internal(format!("{} is not a server", path.display()))),
            Self::Postgres(server) => {
                let connection = PostgresConnection::open(server, writes)?;
                if writes {
                    connection.preflight()?;
                }
                Ok(Connection::Postgres(Box::new(connection)))
            }
            Self::Mysql(server) => {
                let connection = MysqlConnection::open(server, writes)?;
                if writes {
                    connection.preflight()?;
                }
                Ok(Connection::Mysql(Box::new(connection)))
            }
        }
    }
}

impl Connection {
    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(connection) => connection.dialect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_and_shown_without_their_password() {
        let shown = |url: &str| Location::parse(url, Path::new("./data")).map(|location| location.to_string());
        assert_eq!(shown("sqlite:").unwrap(), "sqlite:./data");
        assert_eq!(shown("sqlite:/var/alpes").unwrap(), "sqlite:/var/alpes");
        assert_eq!(shown("postgres://me:secret@db.example:6543/alpes").unwrap(), "postgres://db.example:6543/alpes");
        assert_eq!(shown("mysql://me:secret@127.0.0.1/alpes").unwrap(), "mysql://127.0.0.1:3306/alpes");
        assert_eq!(shown("mariadb://me:secret@h:3307/a").unwrap(), "mysql://h:3307/a");
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for bad in ["", "alpes.db", "oracle://me:secret@h/x", "mysql://me:secret@h:notaport/x"] {
            let fault = Location::parse(bad, Path::new(".")).unwrap_err();
            assert_eq!(fault.code(), "bad_database_url");
            assert!(!fault.detail().contains("secret"), "{fault}");
        }
    }
}
