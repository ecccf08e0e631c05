//! One installation as several processes over one database: two that answer, two that react and look at the time, one
//! that takes the log to a file and, where a broker runs, one that takes it there.

use super::wires::Wires;
use crate::load::control::Control;
use crate::load::loopback;
use crate::load::server::{Alpes, Running, Start, signal};
use crate::services::{self, Service};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Those that answer requests.
pub(super) const SERVERS: [&str; 2] = ["api-1", "api-2"];
/// Those that react.
pub(super) const REACTORS: [&str; 2] = ["reactors-1", "reactors-2"];
pub(super) const RELAY: &str = "relay";
/// Takes over from the relay; runs only when it is asked to.
pub(super) const STANDBY: &str = "relay-standby";
/// Takes the log to the broker, where there is one.
pub(super) const BROKER_RELAY: &str = "relay-pulsar";
/// How often the installation is asked how it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One process, whether it runs or not.
struct Member {
    name: &'static str,
    alpes: Alpes,
    start: Start,
    running: Option<Running>,
}

/// A work and who does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) token: u64,
    is_held: bool,
}

impl Lease {
    fn of(value: &Value) -> Option<Self> {
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            holder: value["holder"].as_str()?.to_owned(),
            token: value["token"].as_u64()?,
            is_held: value["is_held"].as_bool()?,
        })
    }

    /// A holder calls itself by machine, process id and something random.
    fn is_of(&self, pid: u32) -> bool {
        self.is_held && self.holder.split('/').nth(1) == Some(pid.to_string().as_str())
    }
}

/// A broker, and where the installation's topics are on it.
pub(super) struct Broker {
    pub(super) url: String,
    pub(super) admin: String,
    pub(super) namespace: String,
}

impl Broker {
    fn arguments(&self) -> [String; 3] {
        let Self { url, admin, namespace } = self;
        [format!("--pulsar={url}"), format!("--pulsar-admin={admin}"), format!("--pulsar-namespace={namespace}")]
    }
}

/// The installation.
pub(super) struct Cluster {
    root: PathBuf,
    alpes: Alpes,
    key: String,
    members: Vec<Member>,
    /// A database beside the installation's own, from which it can be looked at.
    beside: String,
    database: String,
    /// Where the relay writes.
    pub(super) lines: PathBuf,
    pub(super) broker: Option<Broker>,
    /// Where partitions can be made.
    pub(super) wires: Option<Wires>,
    /// The small file system that the database lies on, if it does.
    pub(super) disk: Option<PathBuf>,
}

impl Cluster {
    /// Starts services and all processes, on a fresh database.
    ///
    /// # Errors
    /// When a service or a process does not start.
    pub(super) fn create(
        root: &Path,
        binary: &Path,
        place: &Path,
        arguments: &[&str],
        wants_broker: bool,
    ) -> Result<Self> {
        let with_broker = wants_broker && services::missing(root, Service::Pulsar).is_none();
        let wanted = [Service::Postgres, Service::Pulsar];
        let variables = services::ensure(root, &wanted[..if with_broker { 2 } else { 1 }])?;
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            found.with_context(|| format!("the services have no {name}"))
        };
        let beside = variable("ALPES_TEST_POSTGRES")?;
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let database = format!("scale_{moment}");
        services::postgres_says(&beside, &format!("CREATE DATABASE {database}"))?;
        let server = beside.rsplit_once('/').context("a URL with a database")?.0;
        let mut alpes = Alpes::fresh(binary, &place.join("all"))?;
        alpes.database = Some(format!("{server}/{database}"));
        let key = alpes.create_key()?;
        let lines = place.join("events.jsonl");
        let broker = if with_broker {
            let (url, admin) = (variable("ALPES_TEST_PULSAR")?, variable("ALPES_TEST_PULSAR_ADMIN")?);
            Some(Broker { url, admin, namespace: database.clone() })
        } else {
            if wants_broker {
                println!("NOT RUN: the broker and what takes events there (`cargo x services up pulsar` says why)");
            }
            None
        };
        if let Some(broker) = &broker {
            let options = broker.arguments();
            let words: Vec<&str> = ["topics", "setup"].into_iter().chain(options.iter().map(String::as_str)).collect();
            let (status, said) = alpes.command(&words)?;
            ensure!(status.success(), "alpes topics setup: {said}");
        }
        let wires = Wires::lay();
        if let Err(error) = &wires {
            ensure!(std::env::var_os("CI").is_none(), "partitions cannot be made, and CI is set: {error:#}");
            println!("NOT RUN: partitions: {error:#}");
        }
        let wires = wires.ok();
        let mut members = members(&alpes, place, &lines, broker.as_ref(), arguments)?;
        if wires.is_some() {
            open_to_all(&[&alpes.data, place])?;
            std::fs::File::create(&lines)?;
            open_to_all(&[&lines])?;
            for (member, number) in members.iter_mut().zip(0..) {
                member.start.wrapper = Wires::wrapper(number);
            }
        }
        let mut cluster =
            Self { root: root.to_owned(), alpes, key, members, beside, database, lines, broker, wires, disk: None };
        for name in cluster.always() {
            cluster.start(name)?;
        }
        Ok(cluster)
    }

    /// Those that run unless a fault ends them.
    pub(super) fn always(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.name).filter(|name| *name != STANDBY).collect()
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).expect("a name of this file")
    }

    fn running(&mut self, name: &str) -> Result<&mut Running> {
        self.member(name).running.as_mut().with_context(|| format!("{name} does not run"))
    }

    /// Starts a process and waits until it is ready.
    pub(super) fn start(&mut self, name: &str) -> Result<()> {
        let key = self.key.clone();
        let member = self.member(name);
        member.running = Some(member.alpes.serve(&member.start, &key).with_context(|| name.to_owned())?);
        Ok(())
    }

    /// SIGTERM; it must end well.
    pub(super) fn stop(&mut self, name: &str) -> Result<()> {
        let running = self.member(name).running.take();
        running.with_context(|| format!("{name} does not run"))?.stop().with_context(|| name.to_owned())
    }

    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        self.running(name)?.kill()?;
        self.member(name).running = None;
        Ok(())
    }

    pub(super) fn signal(&mut self, name: &str, what: &str) -> Result<()> {
        signal(what, self.running(name)?.pid())
    }

    /// The process id and the resident memory.
    pub(super) fn memory_kb(&mut self, name: &str) -> Result<(u32, u64)> {
        let running = self.running(name)?;
        Ok((running.pid(), running.memory_kb("VmRSS")?))
    }

    /// Where requests go.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let port = |name: &str| self.members.iter().find(|member| member.name == name)?.start.port;
        SERVERS.into_iter().filter_map(port).map(loopback).collect()
    }

    /// Asks the first of those that answer.
    pub(super) fn control(&self) -> Control {
        Control { address: self.addresses()[0], key: self.key.clone() }
    }

    /// Fails when a process has ended by itself.
    pub(super) fn everyone_lives(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(status) = member.running.as_mut().map(Running::ended).transpose()?.flatten() {
                bail!("{} has ended by itself with {status}; see {}", member.name, member.alpes.log.display());
            }
        }
        Ok(())
    }

    pub(super) fn verify(&self) -> Result<()> {
        self.alpes.verify()
    }

    fn status(&self) -> Result<Value> {
        let (status, said) = self.alpes.command(&["status"])?;
        ensure!(status.success(), "alpes status: {said}");
        Ok(said)
    }

    /// Who does what, as `alpes status` says.
    pub(super) fn leases(&self) -> Result<Vec<Lease>> {
        let status = self.status()?;
        let leases = status["leases"].as_array().context("a status without leases")?;
        leases.iter().map(|lease| Lease::of(lease).with_context(|| format!("not a lease: {lease}"))).collect()
    }

    /// What a process does now.
    pub(super) fn duties(&mut self, name: &str) -> Result<Vec<Lease>> {
        let pid = self.running(name)?.pid();
        let all = self.leases()?;
        Ok(all.into_iter().filter(|lease| lease.is_of(pid)).collect())
    }

    /// Waits until other processes do all that is in `before`, and answers how long that took since `moment`.
    ///
    /// # Errors
    /// When it has not happened after `limit`.
    pub(super) fn taken_over(&self, before: &[Lease], moment: Instant, limit: Duration) -> Result<Duration> {
        loop {
            // While the database is away, nobody can be asked.
            let now = self.leases().unwrap_or_default();
            let is_over = |old: &Lease| {
                now.iter()
                    .any(|new| new.name == old.name && new.is_held && new.holder != old.holder && new.token > old.token)
            };
            if before.iter().all(is_over) {
                return Ok(moment.elapsed());
            }
            ensure!(moment.elapsed() < limit, "nobody has taken over within {limit:?}: {before:?}, then {now:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until every consumer and relay is past the end of the log as it is now, and answers how long that took
    /// since `moment`.
    ///
    /// # Errors
    /// When it has not happened after `limit`.
    pub(super) fn caught_up(&self, moment: Instant, limit: Duration) -> Result<Duration> {
        let mut head = None;
        loop {
            let status = self.status().unwrap_or_default();
            if head.is_none() {
                head = status["head"].as_u64();
            }
            let consumers = status["consumers"].as_array().cloned().unwrap_or_default();
            let behind = |consumer: &&Value| consumer["position"].as_u64() < head;
            if head.is_some() && !consumers.is_empty() && !consumers.iter().any(|consumer| behind(&consumer)) {
                return Ok(moment.elapsed());
            }
            ensure!(moment.elapsed() < limit, "not everybody is at {head:?} after {limit:?}: {consumers:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Makes a fault of a service.
    pub(super) fn fault(&self, service: Service, fault: services::Fault) -> Result<()> {
        services::make(&self.root, service, fault)
    }

    /// Cuts the wires between a process and a service, until [`Self::mend`].
    pub(super) fn cut(&self, name: &str, service: Service) -> Result<()> {
        let url = match (service, &self.broker) {
            (Service::Pulsar, Some(broker)) => &broker.url,
            _ => &self.beside,
        };
        let port =
            url.split('/').nth(2).and_then(|host| host.rsplit(':').next()).context("a URL with a port")?.parse()?;
        let number = self.members.iter().position(|member| member.name == name).context("a name of this file")?;
        self.wires.as_ref().context("no partitions here")?.cut(u32::try_from(number)?, port)
    }

    pub(super) fn mend(&self) -> Result<()> {
        self.wires.as_ref().map_or(Ok(()), Wires::mend)
    }

    /// How many connections the database takes; with none its sessions are ended too.
    pub(super) fn limit_connections(&self, limit: i32) -> Result<()> {
        let sql = format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", self.database);
        services::postgres_says(&self.beside, &sql)?;
        if limit == 0 {
            self.end_sessions()?;
        }
        Ok(())
    }

    /// Ends every session on the installation's database.
    pub(super) fn end_sessions(&self) -> Result<u64> {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'alpes'",
            self.database
        );
        Ok(services::postgres_says(&self.beside, &sql)?.trim().parse()?)
    }

    /// Backs the database up, restores it beside, and verifies it there.
    pub(super) fn drill(&self) -> Result<()> {
        let mut drill = std::process::Command::new(self.root.join("tools/backup_drill.sh"));
        drill.arg(self.alpes.database.as_deref().context("on a server")?).env("ALPES", &self.alpes.binary);
        let outcome = crate::process::run(drill, crate::process::Show::Nothing)?;
        ensure!(outcome.success, "the backup: {}", outcome.text);
        Ok(())
    }

    /// Stops every process in good order and removes the database.
    pub(super) fn finish(mut self) -> Result<()> {
        for name in self.always() {
            self.stop(name)?;
        }
        services::postgres_says(&self.beside, &format!("DROP DATABASE {} WITH (FORCE)", self.database))?;
        Ok(())
    }
}

/// Lets whoever runs a process write there.
fn open_to_all(places: &[&Path]) -> Result<()> {
    for place in places {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o777))
            .with_context(|| format!("opening {}", place.display()))?;
    }
    Ok(())
}

fn members(
    alpes: &Alpes,
    place: &Path,
    lines: &Path,
    broker: Option<&Broker>,
    arguments: &[&str],
) -> Result<Vec<Member>> {
    let file = format!("--relay-file={}", lines.display());
    let pulsar = broker.map(Broker::arguments);
    let relay = |file: &str| vec!["--roles=relay".to_owned(), file.to_owned()];
    let mut roles = vec![
        (SERVERS[0], vec!["--roles=api".to_owned()]),
        (SERVERS[1], vec!["--roles=api".to_owned()]),
        (REACTORS[0], vec!["--roles=reactors,timers".to_owned()]),
        (REACTORS[1], vec!["--roles=reactors,timers".to_owned()]),
        (RELAY, relay(&file)),
        (STANDBY, relay(&file)),
    ];
    if let Some(options) = pulsar {
        roles.push((BROKER_RELAY, std::iter::once("--roles=relay".to_owned()).chain(options).collect()));
    }
    let ports = services::free_ports::<7>()?;
    let member = |((name, roles), port): ((&'static str, Vec<String>), u16)| Member {
        name,
        alpes: Alpes { log: place.join(format!("{name}.log")), ..alpes.clone() },
        start: Start {
            arguments: roles.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect(),
            port: Some(port),
            ..Start::default()
        },
        running: None,
    };
    Ok(roles.into_iter().zip(ports).map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lease_belongs_to_the_process_in_its_holder_while_it_is_held() {
        let lease = |is_held: bool| {
            let value = json!({"name": "commissions", "holder": "host/41/0a1b2c", "token": 3, "is_held": is_held});
            Lease::of(&value).unwrap()
        };
        assert!(lease(true).is_of(41));
        assert!(!lease(true).is_of(4));
        assert!(!lease(false).is_of(41));
        assert_eq!(Lease::of(&json!({"name": "commissions"})), None);
    }
}
