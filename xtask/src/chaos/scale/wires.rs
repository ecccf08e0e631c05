//! Partitions: the packets between one process and one service are dropped by nftables, so that neither end is told and
//! each waits for the other. Everything is on loopback; a process is known by the user that it runs as, and its connections
//! by the mark that they get from it.

use anyhow::{Context as _, Result, ensure};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The first of the users that processes run as; nobody else has these numbers, and they own nothing.
const FIRST_USER: u32 = 61_000;
const USERS: u32 = 8;

pub(super) struct Wires {
    table: String,
}

impl Wires {
    /// Marks the connections of processes from now on.
    ///
    /// # Errors
    /// Without nftables, or without root's rights.
    pub(super) fn lay() -> Result<Self> {
        let wires = Self { table: format!("alpes_chaos_{}", std::process::id()) };
        let marks: String =
            (FIRST_USER..FIRST_USER + USERS).map(|user| format!("meta skuid {user} ct mark set {user}\n")).collect();
        // On loopback both directions are somebody's output. Marks are set after connections are tracked (-200).
        nft(&format!(
            "table inet {} {{\n\
             chain marking {{ type filter hook output priority -150;\n{marks}}}\n\
             chain cutting {{ type filter hook output priority 0; }}\n}}\n",
            wires.table
        ))?;
        Ok(wires)
    }

    /// What runs the process with this number, see [`crate::load::server::Start::wrapper`].
    pub(super) fn wrapper(number: u32) -> Vec<String> {
        let user = FIRST_USER + number;
        ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"].map(str::to_owned).into()
    }

    /// Drops every packet between a process and who listens on this port.
    pub(super) fn cut(&self, number: u32, port: u16) -> Result<()> {
        let rule = format!("add rule inet {} cutting ct mark {}", self.table, FIRST_USER + number);
        nft(&format!("{rule} tcp dport {port} drop\n{rule} tcp sport {port} drop\n"))
    }

    /// Nothing is dropped any more.
    pub(super) fn mend(&self) -> Result<()> {
        nft(&format!("flush chain inet {} cutting\n", self.table))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        // There is nobody to tell; the table drops nothing by then.
        nft(&format!("delete table inet {}\n", self.table)).ok();
    }
}

fn nft(commands: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.args(["--file", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("nft cannot be started: install the package nftables")?;
    child.stdin.take().context("piped")?.write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft (it needs root): {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
