//! Apache Pulsar as one process: broker, bookie and metadata. No system packages it, so Maven brings the distribution
//! once per user, and each start gets settings and data of its own.

use super::Prepared;
use super::place::{Place, free_ports};
use crate::process::tool;
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NAME: &str = "pulsar";
const VERSION: &str = "4.0.8";
/// Bounds a broker that otherwise takes six gigabytes; tests with some thousand messages in flight stay below.
const MEMORY: &str = "-Xms128m -Xmx384m -XX:MaxDirectMemorySize=384m";
/// The serial collector starts fastest and takes the least; the default one touches all its memory first.
const COLLECTOR: &str = "-XX:+UseSerialGC -XX:+PerfDisableSharedMem";

pub(super) fn missing(root: &Path) -> Option<String> {
    if tool(root, "java").is_none() {
        return Some("install a Java runtime, version 17 or later (package openjdk-17-jre-headless)".to_owned());
    }
    let brought = distribution().is_ok_and(|folder| folder.is_dir());
    (!brought && tool(root, "mvn").is_none()).then(|| "install the package maven, which brings Pulsar".to_owned())
}

pub(super) fn prepare(base: &Path) -> Result<Prepared> {
    let distribution = distribution()?;
    if !distribution.is_dir() {
        bring(&distribution)?;
    }
    let place = Place::of(base, NAME);
    let data = place.data(base, NAME, None)?;
    let [port, admin_port] = free_ports()?;
    let shipped = std::fs::read_to_string(distribution.join("conf/standalone.conf"))?;
    let settings = place.home.join("standalone.conf");
    std::fs::write(&settings, configured(&shipped, &settings_for(port, admin_port)))?;
    let mut command = Command::new(distribution.join("bin/pulsar"));
    command.args(["standalone", "--no-functions-worker", "--no-stream-storage", "--advertised-address", "127.0.0.1"]);
    command.arg("--metadata-dir").arg(data.join("metadata")).arg("--bookkeeper-dir").arg(data.join("bookkeeper"));
    command.env("PULSAR_STANDALONE_CONF", &settings).env("PULSAR_LOG_DIR", place.home.join("logs"));
    command.env("PULSAR_MEM", MEMORY).env("PULSAR_GC", COLLECTOR).env("PULSAR_GC_LOG", " ").current_dir(&data);
    // to the log that is shown when it does not start
    command.env("PULSAR_LOG_APPENDER", "Console").env("PULSAR_ROUTING_APPENDER_DEFAULT", "Console");
    Ok(Prepared { command, port, admin_port: Some(admin_port) })
}

/// The version, once the broker has sent itself a message and its first namespace is there.
pub(super) fn answers(admin_port: u16) -> Option<String> {
    get(admin_port, "/admin/v2/brokers/health").filter(|text| text.contains("ok"))?;
    get(admin_port, "/admin/v2/namespaces/public").filter(|text| text.contains("public/default"))?;
    let version = get(admin_port, "/admin/v2/brokers/version")?;
    Some(version.trim().to_owned())
}

/// Whether a broker that starts again after a kill, and logs from the byte `from` on, cannot come to itself. More often than
/// not its bookie then finds the registration of the killed one, and deletes and writes its own some hundred times a second
/// for ever, so that now and then a topic finds no bookie. After an orderly end the next start is sound.
pub(super) fn is_beside_itself(log: &Path, from: u64, is_alive: impl Fn() -> bool) -> Result<bool> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut reader, mut line, mut deletions) = (BufReader::new(file), Vec::new(), 0);
    while is_alive() {
        if reader.read_until(b'\n', &mut line)? == 0 {
            std::thread::sleep(Duration::from_millis(20));
        } else if line.ends_with(b"\n") {
            let text = String::from_utf8_lossy(&line);
            deletions += u32::from(text.contains("PulsarRegistrationClient - Bookie") && text.contains(" deleted."));
            if deletions > 10 || text.contains("messaging service is ready") {
                return Ok(deletions > 10);
            }
            line.clear();
        }
    }
    Ok(false)
}

/// Durable, on loopback alone, and without housekeeping that would take a test's topic away. The bookie takes a free port
/// by itself. A namespace can be told to refuse messages without a schema; by default it does not.
fn settings_for(port: u16, admin_port: u16) -> Vec<(&'static str, String)> {
    let fixed = [
        ("bindAddress", "127.0.0.1"),
        ("advertisedAddress", "127.0.0.1"),
        ("listeningInterface", "lo"),
        ("allowLoopback", "true"),
        ("journalSyncData", "true"),
        ("brokerDeleteInactiveTopicsEnabled", "false"),
        ("isSchemaValidationEnforced", "false"),
        ("isAllowAutoUpdateSchemaEnabled", "true"),
        // There is one bookie: after a test made it stand still it must not be shunned for half an hour.
        ("bookkeeperClientHealthCheckEnabled", "false"),
    ];
    let ports = [("brokerServicePort", port), ("webServicePort", admin_port)];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    fixed.chain(ports.into_iter().map(|(name, port)| (name, port.to_string()))).collect()
}

/// The shipped settings with these in place of theirs; a name that is not among them is added.
fn configured(shipped: &str, settings: &[(&str, String)]) -> String {
    let is_ours = |line: &&str| settings.iter().any(|(name, _)| line.split('=').next() == Some(name));
    let kept = shipped.lines().filter(|line| !is_ours(line)).map(str::to_owned);
    let ours = settings.iter().map(|(name, value)| format!("{name}={value}"));
    kept.chain(ours).map(|line| line + "\n").collect()
}

/// The distribution of this version in the user's cache, which outlives the work tree.
fn distribution() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("alpes").join(format!("pulsar-{VERSION}")))
}

/// The broker's own client, which reads and writes topics.
pub(crate) fn client() -> Result<Command> {
    let mut client = Command::new(distribution()?.join("bin/pulsar-client"));
    client.env("PULSAR_MEM", "-Xmx128m").env("PULSAR_GC", COLLECTOR).env("PULSAR_GC_LOG", " ");
    Ok(client)
}

/// Fetches and unpacks the distribution beside its place, and moves it there whole.
fn bring(distribution: &Path) -> Result<()> {
    let cache = distribution.parent().context("it lies in a cache")?;
    let fresh = cache.join(format!("pulsar-{VERSION}.{}", std::process::id()));
    std::fs::create_dir_all(&fresh).with_context(|| format!("creating {}", fresh.display()))?;
    let mut maven = Command::new("mvn");
    let artifact = format!("-Dartifact=org.apache.pulsar:pulsar-server-distribution:{VERSION}:tar.gz:bin");
    maven.args(["--quiet", "--batch-mode", "dependency:copy", &artifact]).current_dir(&fresh);
    maven.arg(format!("-DoutputDirectory={}", fresh.display()));
    crate::process::must_run("Maven brings Pulsar, 245 MB, once", "it cannot be had", maven)?;
    let archive = fresh.join(format!("pulsar-server-distribution-{VERSION}-bin.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&fresh);
    crate::process::must_run("unpacking it", "the archive is damaged", tar)?;
    let unpacked = fresh.join(format!("apache-pulsar-{VERSION}"));
    // another work tree may have been faster
    let moved = std::fs::rename(unpacked, distribution);
    ensure!(moved.is_ok() || distribution.is_dir(), "{} cannot be written", distribution.display());
    std::fs::remove_dir_all(&fresh)?;
    Ok(())
}

/// The body of a 2xx answer. HTTP/1.0, so that the answer ends with the connection and has no parts.
fn get(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n").ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.split(' ').nth(1).filter(|status| status.starts_with('2'))?;
    let mut rest = String::new();
    reader.read_to_string(&mut rest).ok()?;
    Some(rest.split_once("\r\n\r\n")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_replace_the_shipped_ones_and_new_ones_are_added() {
        let shipped = "# The port\nbrokerServicePort=6650\nbrokerServicePortTls=\njournalSyncData=false\n";
        let settings = [("brokerServicePort", "7".to_owned()), ("bindAddress", "127.0.0.1".to_owned())];
        let expected =
            "# The port\nbrokerServicePortTls=\njournalSyncData=false\nbrokerServicePort=7\nbindAddress=127.0.0.1\n";
        assert_eq!(configured(shipped, &settings), expected);
    }

    #[test]
    fn what_tests_rely_on_is_set() {
        let settings = settings_for(7, 8);
        let value = |name| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("journalSyncData"), Some("true"));
        assert_eq!(value("brokerDeleteInactiveTopicsEnabled"), Some("false"));
        assert_eq!((value("brokerServicePort"), value("webServicePort")), (Some("7"), Some("8")));
    }
}
