//! The faults: what is done to the installation while the load goes on, and what is measured meanwhile.

use super::cluster::{BROKER_RELAY, Cluster, REACTORS, RELAY, SERVERS, STANDBY};
use super::full;
use crate::services::{Fault as Of, Service};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillServer,
    KillReactors,
    KillRelay,
    /// The database is killed and comes back after so long.
    KillDatabase(Duration),
    /// It stands still for so long.
    FreezeDatabase(Duration),
    /// All sessions are ended, five times a second for so long.
    EndSessions(Duration),
    FreezeReactors(Duration),
    FreezeRelay(Duration),
    /// All processes are stopped and started, one after the other.
    Roll,
    /// The broker is killed and comes back after so long.
    KillBroker(Duration),
    /// The database takes no connection for so long, and has ended those that there were.
    NoConnections(Duration),
    /// The database's disk is full for so long.
    FullDisk(Duration),
    /// Nothing gets through between one api and the database for so long.
    CutServer(Duration),
    /// … between the reactors that work and the database.
    CutReactors(Duration),
    /// … between the relay and the database.
    CutRelay(Duration),
    /// … between what takes events to the broker and the broker.
    CutBroker(Duration),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |what: &str, time: &Duration| format!("{what} {} s", time.as_secs());
        f.pad(&match self {
            Self::KillServer => "kill -9 of an api".to_owned(),
            Self::KillReactors => "kill -9 of the reactors that work".to_owned(),
            Self::KillRelay => "kill -9 of the relay".to_owned(),
            Self::KillDatabase(time) => seconds("database killed, away for", time),
            Self::FreezeDatabase(time) => seconds("database frozen for", time),
            Self::EndSessions(time) => seconds("sessions ended, 5/s for", time),
            Self::FreezeReactors(time) => seconds("reactors frozen for", time),
            Self::FreezeRelay(time) => seconds("relay frozen for", time),
            Self::Roll => "rolling restart of all".to_owned(),
            Self::KillBroker(time) => seconds("broker killed, away for", time),
            Self::NoConnections(time) => seconds("no connection to be had for", time),
            Self::FullDisk(time) => seconds("database's disk full for", time),
            Self::CutServer(time) => seconds("api cut off the database for", time),
            Self::CutReactors(time) => seconds("reactors cut off it for", time),
            Self::CutRelay(time) => seconds("relay cut off it for", time),
            Self::CutBroker(time) => seconds("relay cut off the broker for", time),
        })
    }
}

/// What was measured while a fault was made.
#[derive(Debug)]
pub(super) struct Measured {
    /// From when on everything is there again: how long requests still suffered is counted from here.
    pub(super) healed: Instant,
    /// Until other processes did what the victim had done.
    pub(super) takeover: Option<Duration>,
    /// Until every consumer and relay was at the end of the log, as it was when the fault had ended.
    pub(super) caught_up: Duration,
}

/// A lease ends after three seconds without a renewal, and is asked for every second.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(5);
/// Whoever freezes inside a transaction has the log's head until the database ends the session after five seconds.
const TAKEOVER_FROM_FROZEN_WITHIN: Duration = Duration::from_secs(10);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

impl Fault {
    /// Whether requests may be refused with 503 while it lasts, beyond what one server alone refuses.
    pub(super) const fn stops_writing(self) -> bool {
        matches!(
            self,
            Self::KillDatabase(_)
                | Self::FreezeDatabase(_)
                | Self::EndSessions(_)
                | Self::NoConnections(_)
                | Self::FullDisk(_)
                | Self::CutServer(_)
                | Self::CutReactors(_)
        )
    }

    /// How soon every server must write again once everything is there: a connection that was cut off is found again by
    /// TCP's next repetition, which comes after as long again.
    pub(super) fn back_within(self) -> Duration {
        match self {
            Self::CutServer(time) => Duration::from_secs(2) + time,
            _ => Duration::from_secs(2),
        }
    }

    /// Whether it needs partitions.
    const fn is_cut(self) -> bool {
        matches!(self, Self::CutServer(_) | Self::CutReactors(_) | Self::CutRelay(_) | Self::CutBroker(_))
    }

    /// Makes the fault, heals it and measures.
    pub(super) fn make(self, cluster: &mut Cluster) -> Result<Measured> {
        match self {
            Self::KillServer => {
                cluster.kill(SERVERS[0])?;
                std::thread::sleep(Duration::from_secs(1));
                cluster.start(SERVERS[0])?;
                healed(cluster, None)
            }
            Self::KillReactors => {
                let victim = working(cluster)?;
                let takeover = kill(cluster, victim)?;
                cluster.start(victim)?;
                healed(cluster, Some(takeover))
            }
            Self::KillRelay => {
                let before = cluster.duties(RELAY)?;
                let moment = Instant::now();
                cluster.kill(RELAY)?;
                cluster.start(RELAY)?;
                let takeover = cluster.taken_over(&before, moment, TAKEOVER_WITHIN)?;
                healed(cluster, Some(takeover))
            }
            Self::KillDatabase(time) => outage(cluster, Service::Postgres, [Of::Stop, Of::Start], time),
            Self::FreezeDatabase(time) => outage(cluster, Service::Postgres, [Of::Pause, Of::Resume], time),
            Self::EndSessions(time) => {
                end_sessions(cluster, time)?;
                healed(cluster, None)
            }
            Self::FreezeReactors(time) => {
                let victim = working(cluster)?;
                let takeover = freeze(cluster, victim, time)?;
                healed(cluster, Some(takeover))
            }
            Self::FreezeRelay(time) => {
                cluster.start(STANDBY)?;
                let takeover = freeze(cluster, RELAY, time)?;
                cluster.stop(STANDBY)?;
                healed(cluster, Some(takeover))
            }
            Self::Roll => {
                for name in cluster.always() {
                    cluster.stop(name)?;
                    cluster.start(name)?;
                }
                healed(cluster, None)
            }
            Self::KillBroker(time) => outage(cluster, Service::Pulsar, [Of::Stop, Of::Start], time),
            Self::NoConnections(time) => {
                cluster.limit_connections(0)?;
                std::thread::sleep(time);
                cluster.limit_connections(-1)?;
                healed(cluster, None)
            }
            Self::FullDisk(time) => {
                let ballast = full::fill(cluster.disk.as_ref().context("the database has no small disk")?)?;
                std::thread::sleep(time);
                full::empty(&ballast)?;
                // It ends when it cannot write its log; then somebody starts it again.
                cluster.fault(Service::Postgres, Of::Start)?;
                healed(cluster, None)
            }
            Self::CutServer(time) => {
                let measured = cut(cluster, SERVERS[1], Service::Postgres, time);
                std::thread::sleep(self.back_within());
                measured
            }
            Self::CutReactors(time) => cut_reactors(cluster, time),
            Self::CutRelay(time) => cut(cluster, RELAY, Service::Postgres, time),
            Self::CutBroker(time) => cut(cluster, BROKER_RELAY, Service::Pulsar, time),
        }
    }
}

/// A service is away or stands still for a time.
fn outage(cluster: &Cluster, service: Service, [begin, end]: [Of; 2], time: Duration) -> Result<Measured> {
    cluster.fault(service, begin)?;
    std::thread::sleep(time);
    cluster.fault(service, end)?;
    healed(cluster, None)
}

fn cut(cluster: &Cluster, name: &str, service: Service, time: Duration) -> Result<Measured> {
    cluster.cut(name, service)?;
    std::thread::sleep(time);
    cluster.mend()?;
    healed(cluster, None)
}

fn cut_reactors(cluster: &mut Cluster, time: Duration) -> Result<Measured> {
    let victim = working(cluster)?;
    let before = cluster.duties(victim)?;
    let moment = Instant::now();
    cluster.cut(victim, Service::Postgres)?;
    let takeover = cluster.taken_over(&before, moment, time.max(TAKEOVER_FROM_FROZEN_WITHIN));
    std::thread::sleep(time.saturating_sub(moment.elapsed()));
    cluster.mend()?;
    healed(cluster, Some(takeover?))
}

fn healed(cluster: &Cluster, takeover: Option<Duration>) -> Result<Measured> {
    let moment = Instant::now();
    let caught_up = cluster.caught_up(moment, CAUGHT_UP_WITHIN)?;
    Ok(Measured { healed: moment, takeover, caught_up })
}

/// The reactors that hold leases.
fn working(cluster: &mut Cluster) -> Result<&'static str> {
    for name in REACTORS {
        if !cluster.duties(name)?.is_empty() {
            return Ok(name);
        }
    }
    anyhow::bail!("no reactors hold a lease")
}

fn kill(cluster: &mut Cluster, victim: &str) -> Result<Duration> {
    let before = cluster.duties(victim)?;
    let moment = Instant::now();
    cluster.kill(victim)?;
    cluster.taken_over(&before, moment, TAKEOVER_WITHIN)
}

/// Freezes a process and lets it go on; what it did must be done by others from then on, also when it is awake again.
fn freeze(cluster: &mut Cluster, victim: &str, time: Duration) -> Result<Duration> {
    let before = cluster.duties(victim)?;
    ensure!(!before.is_empty(), "{victim} holds no lease");
    let moment = Instant::now();
    cluster.signal(victim, "STOP")?;
    let takeover = cluster.taken_over(&before, moment, time.max(TAKEOVER_FROM_FROZEN_WITHIN));
    std::thread::sleep(time.saturating_sub(moment.elapsed()));
    cluster.signal(victim, "CONT")?;
    let takeover = takeover?;
    let after = cluster.leases()?;
    std::thread::sleep(Duration::from_millis(2_500));
    for new in cluster.leases()? {
        if before.iter().all(|old| old.name != new.name) {
            continue;
        }
        let old = after.iter().find(|old| old.name == new.name).context("leases do not vanish")?;
        ensure!(
            (old.token, &old.holder) == (new.token, &new.holder),
            "{victim} has taken {} back from somebody who works: {old:?}, then {new:?}",
            new.name
        );
    }
    Ok(takeover)
}

fn end_sessions(cluster: &Cluster, time: Duration) -> Result<()> {
    let began = Instant::now();
    let mut ended = 0;
    for round in 1.. {
        ended += cluster.end_sessions()?;
        let next = Duration::from_millis(200) * round;
        if next >= time {
            break;
        }
        std::thread::sleep(next.saturating_sub(began.elapsed()));
    }
    ensure!(ended > 0, "no session was ended");
    Ok(())
}

/// The whole programme: with short or with long outages.
pub(super) fn programme(long: bool, cluster: &Cluster) -> Vec<Fault> {
    let seconds = |short: u64, longer: u64| Duration::from_secs(if long { longer } else { short });
    let mut faults = vec![
        Fault::KillServer,
        Fault::KillReactors,
        Fault::KillRelay,
        Fault::KillDatabase(seconds(2, 5)),
        Fault::KillDatabase(seconds(6, 20)),
        Fault::FreezeDatabase(seconds(4, 10)),
        Fault::EndSessions(seconds(10, 60)),
        Fault::FreezeReactors(seconds(8, 30)),
        Fault::FreezeRelay(seconds(8, 30)),
        Fault::NoConnections(seconds(4, 20)),
        Fault::CutServer(seconds(4, 20)),
        Fault::CutReactors(seconds(8, 30)),
        Fault::CutRelay(seconds(4, 20)),
        Fault::Roll,
    ];
    if cluster.broker.is_some() {
        faults.extend([Fault::CutBroker(seconds(4, 20)), Fault::KillBroker(seconds(2, 60))]);
    }
    faults.retain(|fault| cluster.wires.is_some() || !fault.is_cut());
    faults
}
