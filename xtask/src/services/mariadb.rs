//! MariaDB from Debian's package, as one throw-away server.

use super::place::{Place, User, free_ports};
use super::{Prepared, certificates, first_word};
use crate::process::tool;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "mariadb";
/// A complete row-based binary log for the relay, and full durability. Paths are relative to the data directory, where
/// the server goes: a socket's absolute path could be too long.
const SETTINGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--socket=mariadb.sock",
    "--pid-file=mariadb.pid",
    "--skip-name-resolve",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--log-bin-compress=OFF",
    "--server-id=1",
    "--gtid-strict-mode=ON",
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=256M",
    "--character-set-server=utf8mb4",
    "--max-allowed-packet=64M",
    "--ssl-cert=server.pem",
    "--ssl-key=server.key",
];
/// Run by the server at its start, one statement per line. Nobody without a name may connect: such a row would win over
/// `alpes` from any host.
const ACCOUNT: &str = "\
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE DATABASE IF NOT EXISTS alpes;
CREATE USER IF NOT EXISTS alpes@'%' IDENTIFIED BY 'alpes';
GRANT ALL PRIVILEGES ON *.* TO alpes@'%';
GRANT REPLICATION CLIENT, REPLICATION SLAVE, SLAVE MONITOR, BINLOG MONITOR ON *.* TO alpes@'%';
";

pub(super) fn missing(root: &Path) -> Option<String> {
    let programs = server(root).and(tool(root, "mariadb-install-db")).and(tool(root, "mariadb"));
    programs.is_none().then(|| "install the package mariadb-server".to_owned())
}

pub(super) fn prepare(root: &Path, base: &Path) -> Result<Prepared> {
    let place = Place::of(base, NAME);
    let user = User::instead_of_root("mysql")?;
    let data = place.data(base, NAME, user)?;
    let runs = |mut command: Command| {
        command.current_dir(&data);
        if let Some(user) = user {
            user.runs(&mut command);
        }
        command
    };
    // --no-defaults everywhere: the settings of the machine's own server are not ours
    let mut install = runs(Command::new("mariadb-install-db"));
    install.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
    install.arg(format!("--datadir={}", data.display()));
    place.run(install)?;
    certificates::make(&place, &data, user)?;
    let account = data.join("account.sql");
    std::fs::write(&account, ACCOUNT)?;
    let [port] = free_ports()?;
    let mut command = runs(Command::new(server(root).context("looked for before")?));
    command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
    command.args(SETTINGS).arg(format!("--init-file={}", account.display()));
    Ok(Prepared { command, port, admin_port: None })
}

/// The version that a query over TCP answers.
pub(super) fn answers(port: u16) -> Option<String> {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=alpes", "--password=alpes"]);
    client.args([&format!("--port={port}"), "--connect-timeout=5", "--batch", "--skip-column-names"]);
    client.args(["--execute=SELECT VERSION()", "alpes"]);
    first_word(client)
}

/// Debian keeps it where only root's path leads.
fn server(root: &Path) -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/sbin/mariadbd");
    tool(root, "mariadbd").or_else(|| debian.is_file().then_some(debian))
}
