//! Servers that a test starts for itself, because it needs settings that the shared ones must not have.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::{PATIENCE, now, pause};

/// A server with a directory of its own, both gone in the end.
pub(crate) struct Server {
    directory: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    is_postgres: bool,
    process: Option<Child>,
}

impl Server {
    /// A fresh PostgreSQL, not yet started; nothing when it is not installed.
    pub(crate) fn postgres() -> Option<Self> {
        let programs = PathBuf::from(answer("pg_config", &["--bindir"])?);
        let server = Self::new(true, programs, "postgres")?;
        let data = format!("--pgdata={}", server.directory.display());
        // Small segments of the log: a slot is lost within seconds.
        server.run("initdb", &["--username=postgres", "--auth=trust", "--wal-segsize=1", "--no-sync", &data]);
        Some(server)
    }

    /// A fresh MariaDB, not yet started; nothing when it is not installed.
    pub(crate) fn mariadb() -> Option<Self> {
        answer("mariadbd", &["--version"])?;
        let server = Self::new(false, PathBuf::new(), "mysql")?;
        let data = format!("--datadir={}", server.directory.join("data").display());
        server.run("mariadb-install-db", &["--no-defaults", "--skip-test-db", "--skip-name-resolve", &data]);
        Some(server)
    }

    fn new(is_postgres: bool, programs: PathBuf, account: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let directory = std::env::temp_dir().join(format!("alpes-cdc-server-{port}"));
        std::fs::create_dir(&directory).ok()?;
        let id = |kind: &str, name: &[&str]| answer("id", &[&[kind], name].concat())?.parse::<u32>().ok();
        let mut user = None;
        if id("-u", &[])? == 0 {
            // Neither server runs as root.
            let (owner, group) = (id("-u", &[account])?, id("-g", &[account])?);
            std::os::unix::fs::chown(&directory, Some(owner), Some(group)).ok()?;
            user = Some((owner, group));
        }
        Some(Self { directory, programs, user, port, is_postgres, process: None })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A MariaDB that starts removes temporary tables, also another's, from where it keeps its own.
        command.env("TMPDIR", &self.directory);
        if let Some((owner, group)) = self.user {
            command.uid(owner).gid(group);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it, again if it runs, with these settings over the right ones.
    pub(crate) fn start(&mut self, settings: &[&str]) {
        self.stop();
        let port = self.port;
        let mut command;
        if self.is_postgres {
            command = self.command("postgres");
            command.args(["-D", ".", "-p", &port.to_string()]);
            let right = ["unix_socket_directories=", "listen_addresses=127.0.0.1", "wal_level=logical"];
            let right = right.into_iter().chain(["max_slot_wal_keep_size=64MB", "min_wal_size=4MB"]);
            command.args(right.chain(settings.iter().copied()).flat_map(|setting| ["-c", setting]));
        } else {
            command = self.command("mariadbd");
            let data = format!("--datadir={}", self.directory.join("data").display());
            command.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--socket=s.sock"]);
            command.args([&format!("--port={port}"), "--pid-file=s.pid", "--skip-name-resolve", "--sync-binlog=1"]);
            command.args(["--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL", "--server-id=7"]);
            let init = self.directory.join("init.sql");
            std::fs::write(
                &init,
                "CREATE USER IF NOT EXISTS root@'127.0.0.1';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n\
                 CREATE DATABASE IF NOT EXISTS alpes;\n",
            )
            .unwrap();
            command.arg(format!("--init-file={}", init.display())).args(settings);
        }
        self.process = Some(command.spawn().unwrap());
        let deadline = now() + PATIENCE;
        while !self.answers() {
            assert!(now() < deadline, "the server does not start");
            pause(Duration::from_millis(50));
        }
    }

    /// Of its superuser.
    pub(crate) fn url(&self) -> String {
        self.url_of("")
    }

    pub(crate) fn url_of(&self, account: &str) -> String {
        if self.is_postgres {
            let account = if account.is_empty() { "postgres" } else { account };
            format!("postgres://{account}@127.0.0.1:{}/postgres", self.port)
        } else {
            let account = if account.is_empty() { "root" } else { account };
            format!("mysql://{account}@127.0.0.1:{}/alpes", self.port)
        }
    }

    fn answers(&self) -> bool {
        let url = self.url();
        if self.is_postgres {
            postgres::Client::connect(&url, postgres::NoTls).is_ok()
        } else {
            mysql::Conn::new(url.as_str()).is_ok()
        }
    }

    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let signal = if self.is_postgres { "-INT" } else { "-TERM" };
        let _ = Command::new("kill").args([signal, &process.id().to_string()]).status();
        let _ = process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Says that a test did not run for want of a server.
pub(crate) fn not_run<T>(server: Option<T>, name: &str) -> Option<T> {
    if server.is_none() {
        println!("NOT RUN: {name} is not installed");
    }
    server
}

/// The location behind a URL.
pub(crate) fn location(url: &str) -> platform::Location {
    platform::Location::parse(url, Path::new(".")).unwrap()
}
