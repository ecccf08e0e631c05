//! What is asked of PostgreSQL in SQL: whether its settings will do, the publication and the slot, how far a slot is
//! behind. It must not know the replication protocol.

use kernel::{Fault, Result, problems};
use platform::Endpoint;
use postgres::Client;
use postgres::types::{FromSqlOwned, ToSql};

use super::slot;
use crate::connect::{self, lost, refused};
use crate::{Lag, PLACE_LOST, PUBLICATION, TABLE};

/// `binary` of the output plug-in came with this version.
const OLDEST_VERSION: i32 = 140_000;

/// Where a stream starts.
pub(super) struct Start {
    /// What the slot has confirmed.
    pub(super) confirmed: u64,
    /// The last position in the table.
    pub(super) head: i64,
    /// Where the log of changes ended after that was read.
    pub(super) end: u64,
}

/// Places are shown as PostgreSQL writes them.
pub(super) fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

pub(crate) fn preflight(endpoint: &Endpoint, name: &str) -> Result<()> {
    let mut client = connect::postgres(endpoint)?;
    let number = |client: &mut Client, setting: &str| {
        one::<i32>(client, "SELECT setting::int FROM pg_settings WHERE name = $1", &[&setting])
    };
    let version = number(&mut client, "server_version_num")?;
    if version < OLDEST_VERSION {
        return Err(refused(format!("PostgreSQL {} is too old for this stream; 14 is needed", version / 10_000)));
    }
    let level: String = one(&mut client, "SELECT setting FROM pg_settings WHERE name = 'wal_level'", &[])?;
    if level != "logical" {
        let detail = format!("wal_level is {level}; set `wal_level = logical` in postgresql.conf and restart");
        return Err(refused(detail));
    }
    if number(&mut client, "max_slot_wal_keep_size")? < 0 {
        return Err(refused(
            "max_slot_wal_keep_size is -1, so a relay that is away would fill the disk; set \
             `max_slot_wal_keep_size = 10GB` in postgresql.conf, as much as the disk can spare, and reload",
        ));
    }
    let may: bool =
        one(&mut client, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user", &[])?;
    if !may {
        let detail = format!(
            "the role {user} may not replicate; run `ALTER ROLE {user} REPLICATION` as superuser",
            user = endpoint.user
        );
        return Err(refused(detail));
    }
    let slot = slot(name);
    // Only a slot or a reader that is still to come needs a free place.
    let slots = "SELECT count(*) FILTER (WHERE slot_name <> $1)::int FROM pg_replication_slots";
    let others: i32 = one(&mut client, slots, &[&slot])?;
    exhausted("max_replication_slots", number(&mut client, "max_replication_slots")?, others)?;
    let readers = "SELECT (count(*) - (SELECT count(*) FROM pg_replication_slots
                                       WHERE slot_name = $1 AND active))::int FROM pg_stat_replication";
    let others: i32 = one(&mut client, readers, &[&slot])?;
    exhausted("max_wal_senders", number(&mut client, "max_wal_senders")?, others)
}

fn exhausted(setting: &str, limit: i32, used: i32) -> Result<()> {
    if used < limit {
        return Ok(());
    }
    let detail = format!(
        "all {limit} of {setting} are taken; set `{setting} = {}` in postgresql.conf and restart, or free one",
        used + 4
    );
    Err(refused(detail))
}

pub(crate) fn setup(endpoint: &Endpoint, name: &str) -> Result<String> {
    let mut client = connect::postgres(endpoint)?;
    let known = "SELECT count(*)::int FROM pg_publication WHERE pubname = $1";
    if one::<i32>(&mut client, known, &[&PUBLICATION])? == 0 {
        let create = format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE} WITH (publish = 'insert')");
        client.batch_execute(&create).map_err(|error| match error.code().map(postgres::error::SqlState::code) {
            Some("42501") => refused(format!("{} does not own the table; run `{create}` as its owner", endpoint.user)),
            _ => fault(&error),
        })?;
    }
    let covered = "SELECT count(*)::int FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
                   WHERE pubname = $1 AND pubinsert AND t.tablename = $2";
    if one::<i32>(&mut client, covered, &[&PUBLICATION, &TABLE])? != 1 {
        let detail = format!(
            "the publication {PUBLICATION} does not hold the inserts of {TABLE}; run `DROP PUBLICATION {PUBLICATION}`"
        );
        return Err(refused(detail));
    }
    let slot = slot(name);
    if found(&mut client, &slot)?.is_none() {
        // The slot comes after the publication: it sees the catalogue as it was at each change.
        let create = "SELECT (lsn - '0/0'::pg_lsn)::bigint FROM pg_create_logical_replication_slot($1, 'pgoutput')";
        let lsn: i64 = one(&mut client, create, &[&slot])?;
        return Ok(lsn_text(lsn.unsigned_abs()));
    }
    let slot = usable(&mut client, endpoint, &slot)?;
    Ok(lsn_text(slot.confirmed))
}

pub(crate) fn remove(endpoint: &Endpoint, name: &str) -> Result<()> {
    let mut client = connect::postgres(endpoint)?;
    let slot = slot(name);
    if let Some(found) = found(&mut client, &slot)?
        && found.database == endpoint.database
    {
        client.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).map_err(|error| fault(&error))?;
    }
    let others = "SELECT count(*)::int FROM pg_replication_slots
                  WHERE slot_name LIKE 'alpes\\_%' AND database = current_database() AND plugin = 'pgoutput'";
    if one::<i32>(&mut client, others, &[])? == 0 {
        let drop = format!("DROP PUBLICATION IF EXISTS {PUBLICATION}");
        client.batch_execute(&drop).map_err(|error| fault(&error))?;
    }
    Ok(())
}

pub(super) fn start(endpoint: &Endpoint, slot: &str) -> Result<Start> {
    let mut client = connect::postgres(endpoint)?;
    let slot = usable(&mut client, endpoint, slot)?;
    let head: i64 = one(&mut client, "SELECT position FROM log_head WHERE id = 1", &[])?;
    let end: i64 = one(&mut client, "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint", &[])?;
    Ok(Start { confirmed: slot.confirmed, head, end: end.unsigned_abs() })
}

pub(super) fn lag(endpoint: &Endpoint, slot: &str) -> Result<Lag> {
    let mut client = connect::postgres(endpoint)?;
    let limit_bytes = limit_bytes(&mut client)?;
    let slot = found(&mut client, slot)?.ok_or_else(|| gone("there is no slot"))?;
    Ok(Lag { behind_bytes: slot.behind_bytes, limit_bytes, status: slot.status, is_active: slot.is_active })
}

/// What the server keeps for a slot at most.
fn limit_bytes(client: &mut Client) -> Result<Option<u64>> {
    let sql = "SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size'";
    let mebibytes: i32 = one(client, sql, &[])?;
    Ok(u64::try_from(mebibytes).ok().map(|mebibytes| mebibytes << 20))
}

/// The logical slots of this database.
pub(crate) fn slots(endpoint: &Endpoint) -> Result<Vec<crate::Slot>> {
    let mut client = connect::postgres(endpoint)?;
    let limit_bytes = limit_bytes(&mut client)?;
    let names =
        "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY slot_name";
    let names = client.query(names, &[]).map_err(|error| fault(&error))?;
    let mut slots = Vec::new();
    for row in names {
        let name: String = row.try_get(0).map_err(|error| fault(&error))?;
        // It may be gone by now.
        let Some(Slot { status, is_active, behind_bytes, .. }) = found(&mut client, &name)? else { continue };
        slots.push(crate::Slot { name, status, is_active, behind_bytes: Some(behind_bytes), limit_bytes });
    }
    Ok(slots)
}

/// A slot as the server describes it.
struct Slot {
    database: String,
    status: String,
    is_active: bool,
    confirmed: u64,
    behind_bytes: u64,
}

fn found(client: &mut Client, slot: &str) -> Result<Option<Slot>> {
    let sql = "SELECT COALESCE(database::text, ''), COALESCE(wal_status, 'lost'), active,
                      COALESCE((confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, 0),
                      COALESCE((pg_current_wal_lsn() - restart_lsn)::bigint, 0)
               FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(sql, &[&slot]).map_err(|error| fault(&error))?;
    let slot = |row: postgres::Row| {
        Ok::<_, postgres::Error>(Slot {
            database: row.try_get(0)?,
            status: row.try_get(1)?,
            is_active: row.try_get(2)?,
            confirmed: row.try_get::<_, i64>(3)?.unsigned_abs(),
            behind_bytes: row.try_get::<_, i64>(4)?.unsigned_abs(),
        })
    };
    row.map(slot).transpose().map_err(|error| fault(&error))
}

/// The slot, when it is of this database and still keeps its place.
fn usable(client: &mut Client, endpoint: &Endpoint, name: &str) -> Result<Slot> {
    let slot = found(client, name)?.ok_or_else(|| gone(&format!("there is no slot {name}")))?;
    if slot.database != endpoint.database {
        let detail = format!("the slot {name} belongs to the database {}; choose another name", slot.database);
        return Err(refused(detail));
    }
    if slot.status == "lost" {
        return Err(gone(&format!("the slot {name} held back more than max_slot_wal_keep_size and was given up")));
    }
    Ok(slot)
}

fn gone(detail: &str) -> Fault {
    Fault::new(&PLACE_LOST, detail)
}

fn one<T: FromSqlOwned>(client: &mut Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<T> {
    client.query_one(sql, params).and_then(|row| row.try_get(0)).map_err(|error| fault(&error))
}

fn fault(error: &postgres::Error) -> Fault {
    match error.as_db_error() {
        Some(server) => fault_of(server.code().code(), server.message()),
        None => lost(&format!("{error:?}")),
    }
}

/// What an error of the server means for a reader of its log.
pub(super) fn fault_of(code: &str, words: &str) -> Fault {
    match code {
        "55006" => Fault::new(&problems::UNAVAILABLE, "another reader has the slot").caused_by(words),
        // No such slot or publication, or one that was given up.
        "42704" | "55000" => gone(words),
        "42501" => refused(format!("the database says: {words}")),
        _ => lost(&format!("{code} {words}")),
    }
}
