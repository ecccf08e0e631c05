//! What is asked of MariaDB in SQL: whether its settings will do, where its binary log stands. It must not know the
//! events of that log.

use kernel::{Fault, Result};
use mysql::Conn;
use mysql::prelude::{FromRow, Queryable as _};
use platform::Endpoint;

use super::Place;
use super::gtid::Gtids;
use crate::connect::{self, PATIENCE, lost, refused};
use crate::{COLUMNS, Lag, PLACE_LOST, TABLE};

/// A relay may be away for a night and a day.
const SHORTEST_RETENTION_SECONDS: u64 = 86_400;

/// Where ours are among the table's columns.
pub(super) struct Columns {
    pub(super) count: u64,
    pub(super) places: [usize; COLUMNS.len()],
}

/// Where a stream starts.
pub(super) struct Start {
    pub(super) gtids: Gtids,
    /// The last position in the table.
    pub(super) head: i64,
    /// Where the binary log ended after that was read.
    pub(super) end: Gtids,
}

pub(crate) fn preflight(endpoint: &Endpoint) -> Result<()> {
    let mut conn = connect::mariadb(endpoint, PATIENCE)?;
    let version: String = one(&mut conn, "SELECT VERSION()")?;
    if !version.contains("MariaDB") {
        return Err(refused(format!("the stream has never been tried on MySQL {version}: relay by polling there")));
    }
    let settings = [
        ("log_bin", "ON", "log_bin = alpes-bin"),
        ("binlog_format", "ROW", "binlog_format = ROW"),
        ("binlog_row_image", "FULL", "binlog_row_image = FULL"),
        ("log_bin_compress", "OFF", "log_bin_compress = OFF"),
    ];
    for (name, right, line) in settings {
        let value: String = one(&mut conn, &format!("SELECT CAST(@@global.{name} AS CHAR)"))?;
        if value != right {
            return Err(refused(format!("{name} is {value}; set `{line}` under [mysqld] and restart")));
        }
    }
    // Zero keeps the log for ever.
    let kept: u64 = one(&mut conn, "SELECT @@global.binlog_expire_logs_seconds")?;
    if (1..SHORTEST_RETENTION_SECONDS).contains(&kept) {
        return Err(refused(format!(
            "binlog_expire_logs_seconds is {kept}, so a relay that is away for a day loses its place; set \
             `binlog_expire_logs_seconds = 604800` under [mysqld] and restart"
        )));
    }
    let grants: Vec<String> = conn.query("SHOW GRANTS").map_err(|error| fault(&error))?;
    for privilege in ["REPLICATION SLAVE", "BINLOG MONITOR"] {
        let holds = |grant: &String| {
            grant.contains(" ON *.* ") && (grant.contains(privilege) || grant.contains("ALL PRIVILEGES"))
        };
        if !grants.iter().any(holds) {
            let detail = format!(
                "the account {user} lacks {privilege}; run `GRANT {privilege} ON *.* TO {user}`",
                user = endpoint.user
            );
            return Err(refused(detail));
        }
    }
    Ok(())
}

/// Where the binary log stands.
pub(crate) fn current_place(endpoint: &Endpoint) -> Result<String> {
    one(&mut connect::mariadb(endpoint, PATIENCE)?, "SELECT @@global.gtid_binlog_pos")
}

pub(super) fn start(endpoint: &Endpoint, resume: Option<&str>) -> Result<Start> {
    let mut conn = connect::mariadb(endpoint, PATIENCE)?;
    let place = |conn: &mut Conn| Gtids::parse(&one::<String>(conn, "SELECT @@global.gtid_binlog_pos")?);
    let gtids = resume.map_or_else(|| place(&mut conn), Gtids::parse)?;
    let head = one(&mut conn, "SELECT position FROM log_head WHERE id = 1")?;
    Ok(Start { gtids, head, end: place(&mut conn)? })
}

pub(super) fn columns(conn: &mut Conn) -> Result<Columns> {
    let sql = format!(
        "SELECT column_name FROM information_schema.columns
         WHERE table_schema = DATABASE() AND table_name = '{TABLE}' ORDER BY ordinal_position"
    );
    let names: Vec<String> = conn.query(sql).map_err(|error| fault(&error))?;
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let found = names.iter().position(|name| name.eq_ignore_ascii_case(column));
        *place = found.ok_or_else(|| refused(format!("{TABLE} has no column {column}: run `alpes migrate`")))?;
    }
    Ok(Columns { count: u64::try_from(names.len()).unwrap_or(u64::MAX), places })
}

/// The bytes of the binary log behind a place. Its file's name may have a checksum behind it, when it came from a
/// rotation that the server made up for the reader.
pub(super) fn lag(endpoint: &Endpoint, place: &Place, is_active: bool) -> Result<Lag> {
    let mut conn = connect::mariadb(endpoint, PATIENCE)?;
    let files: Vec<(String, u64)> = conn.query("SHOW BINARY LOGS").map_err(|error| fault(&error))?;
    let first = files.iter().position(|(name, _)| place.file.starts_with(name.as_str()));
    let all: u64 = files[first.unwrap_or(files.len())..].iter().map(|(_, bytes)| bytes).sum();
    Ok(Lag {
        behind_bytes: all.saturating_sub(place.offset),
        limit_bytes: None,
        status: if first.is_some() || place.file.is_empty() { "kept" } else { "lost" }.to_owned(),
        is_active,
    })
}

/// The sessions that read the binary log for this database. The server keeps the log for a time and not for them, and knows
/// no place of theirs.
pub(crate) fn slots(endpoint: &Endpoint) -> Result<Vec<crate::Slot>> {
    let mut conn = connect::mariadb(endpoint, PATIENCE)?;
    let sql = "SELECT COALESCE(state, '') FROM information_schema.processlist
               WHERE command LIKE 'Binlog Dump%' AND db = DATABASE() ORDER BY id";
    let states: Vec<String> = conn.query(sql).map_err(|error| fault(&error))?;
    let slot = |status| crate::Slot {
        name: "binlog".to_owned(),
        status,
        is_active: true,
        behind_bytes: None,
        limit_bytes: None,
    };
    Ok(states.into_iter().map(slot).collect())
}

fn one<T: FromRow>(conn: &mut Conn, sql: &str) -> Result<T> {
    let row = conn.query_first(sql).map_err(|error| fault(&error))?;
    row.ok_or_else(|| lost(&format!("no answer to {sql}")))
}

/// What an error of the client means for a reader of the binary log.
pub(super) fn fault(error: &mysql::Error) -> Fault {
    let mysql::Error::MySqlError(server) = error else { return lost(error) };
    match server.code {
        // The log does not reach back to the place, or is another server's. A second reader is said with the same code.
        1_236 if !server.message.contains("same server") => {
            Fault::new(&PLACE_LOST, format!("the database says: {}", server.message))
        }
        1_044 | 1_045 | 1_142 | 1_227 => refused(format!("the database says: {}", server.message)),
        _ => lost(error),
    }
}
