//! PostgreSQL from Debian's package, as one throw-away cluster.

use super::place::{Place, User, free_ports};
use super::{Prepared, certificates, first_word};
use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "postgres";
/// Logical decoding for the relay, full durability, and a bound on what a forgotten slot may keep.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "autovacuum=on",
    "wal_level=logical",
    "max_replication_slots=16",
    "max_wal_senders=16",
    "max_slot_wal_keep_size=256MB",
    "max_connections=200",
    "shared_buffers=256MB",
    "ssl=on",
    "ssl_cert_file=server.pem",
    "ssl_key_file=server.key",
];
/// One statement per line: a single-user server reads them so.
const ROLE: &str =
    "CREATE ROLE alpes LOGIN CREATEDB REPLICATION PASSWORD 'alpes';\nCREATE DATABASE alpes OWNER alpes;\n";

/// The superuser has no password, so nobody is one over the network.
const WHO_MAY_CONNECT: &str =
    "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";

pub(super) fn missing() -> Option<String> {
    programs().is_none().then(|| "install the package postgresql".to_owned())
}

pub(super) fn prepare(base: &Path) -> Result<Prepared> {
    let programs = programs().context("looked for before")?;
    let place = Place::of(base, NAME);
    let user = User::instead_of_root("postgres")?;
    let data = place.data(base, NAME, user)?;
    let program = |name: &str| {
        let mut command = Command::new(programs.join(name));
        command.current_dir(&data);
        if let Some(user) = user {
            user.runs(&mut command);
        }
        command
    };
    let mut initdb = program("initdb");
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"]).arg(&data);
    place.run(initdb)?;
    certificates::make(&place, &data, user)?;
    std::fs::write(data.join("pg_hba.conf"), WHO_MAY_CONNECT)?;
    std::fs::write(place.home.join("role.sql"), ROLE)?;
    let mut single = program("postgres");
    single.args(["--single", "-D"]).arg(&data).arg("postgres").stdin(File::open(place.home.join("role.sql"))?);
    place.run(single)?;
    let [port] = free_ports()?;
    let mut command = program("postgres");
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
    Ok(Prepared { command, port, admin_port: None })
}

/// The version that a query over TCP answers.
pub(super) fn answers(port: u16) -> Option<String> {
    let mut psql = Command::new(programs()?.join("psql"));
    psql.arg(format!("postgres://alpes:alpes@127.0.0.1:{port}/alpes?connect_timeout=5"));
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", "SHOW server_version"]);
    first_word(psql)
}

/// What a statement answers on the database at `url`.
pub(crate) fn says(url: &str, sql: &str) -> Result<String> {
    let mut psql = Command::new(programs().context("looked for before")?.join("psql"));
    psql.arg(url).args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql]);
    let output = psql.output().context("psql cannot be started")?;
    ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The folder of the newest version's programs: Debian keeps them off the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(number)?;
    Some(newest.join("bin")).filter(|folder| folder.join("initdb").is_file() && folder.join("psql").is_file())
}
