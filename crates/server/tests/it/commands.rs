//! Commands by the broker: the official Python client sends, the real process records. Needs a broker
//! (ALPES_TEST_PULSAR, ALPES_TEST_PULSAR_ADMIN) and the client that `.ci/run` installs; says when it was not run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kernel::{EventRecord, IdSource, ManualClock, Timestamp};
use log_pulsar::{Fate, Letter, Letters, Options, Wanted, topics};
use platform::{Db, Location, event_log};
use serde_json::{Value, json};

const TOPICS: &str = "commands.conversion,commands.refund,commands.touch";

/// A namespace, a database, and what works on them.
struct House {
    options: Options,
    kind: &'static str,
    place: PathBuf,
    database: String,
    processes: Vec<Child>,
}

impl House {
    /// None, and a line that says so, when the broker or the client is missing.
    fn build(test: &str, kind: &'static str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (Ok(service), Ok(admin)) = (std::env::var("ALPES_TEST_PULSAR"), std::env::var("ALPES_TEST_PULSAR_ADMIN"))
        else {
            println!("NOT RUN: {test}: ALPES_TEST_PULSAR and ALPES_TEST_PULSAR_ADMIN name no broker");
            return None;
        };
        if !python().exists() {
            println!("NOT RUN: {test}: the Python client is not installed (.ci/run installs it)");
            return None;
        }
        let mut options = Options::new(service, admin);
        options.namespace = format!("commands-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = std::env::temp_dir().join(&options.namespace);
        std::fs::create_dir_all(&place).unwrap();
        let house = Self { options, kind, place, database: "sqlite:".to_owned(), processes: Vec::new() };
        house.run(&["topics", "setup"]);
        Some(house)
    }

    /// The program with everything that it needs to know.
    fn alpes(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpes"));
        command.env("ALPES_DATA", &self.place).env("ALPES_DATABASE", &self.database);
        command.env("ALPES_PULSAR", &self.options.service_url).env("ALPES_PULSAR_ADMIN", &self.options.admin_url);
        command.env("ALPES_PULSAR_NAMESPACE", &self.options.namespace).env("ALPES_PULSAR_COMMANDS", "true");
        if self.kind == "AVRO" {
            command.env("ALPES_PULSAR_AVRO", TOPICS);
        }
        command
    }

    /// What a command prints as JSON.
    fn run(&self, arguments: &[&str]) -> Value {
        let output = self.alpes().arg("--json").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a process that takes commands in; `crash` ends it by itself.
    fn serve(&mut self, crash: Option<&str>) {
        let log = std::fs::File::options().create(true).append(true).open(self.place.join("log")).unwrap();
        let mut command = self.alpes();
        if let Some(crash) = crash {
            command.env("ALPES_CRASH_AT", crash);
        }
        // Events need not go out: only what comes in is looked at.
        command.args(["serve", "--port", "0", "--roles", "api,reactors,timers"]);
        self.processes.push(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Sends with the official client; answers which other schemas the broker refused.
    fn send(&self, orders: &[Value]) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut client = Command::new(python())
            .arg(root.join("../../tests/interop/pulsar_client.py"))
            .args(["send", &self.options.service_url])
            .arg(format!("{}/{}", self.options.tenant, self.options.namespace))
            .arg(root.join("schemas"))
            .arg(self.kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: String = orders.iter().map(|order| format!("{order}\n")).collect();
        client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["sent"], orders.len());
        serde_json::from_value(told["refused"].clone()).unwrap()
    }

    fn location(&self) -> Location {
        Location::parse(&self.database, &self.place).unwrap()
    }

    /// The facts that were recorded, in order.
    fn recorded(&self) -> Vec<EventRecord> {
        let clock = Arc::new(ManualClock::at(Timestamp::default()));
        let options = server::wiring::options(clock, IdSource::from_number(1), None);
        let Ok(db) = Db::open_beside(&self.location(), options) else { return Vec::new() };
        let types = ["conversions.recorded.v1", "conversions.refund_recorded.v1", "conversions.touch_recorded.v1"];
        db.read(|reader| event_log::range(reader, 0, i64::MAX, &types, 100_000)).unwrap_or_default()
    }

    /// Waits until so many facts are recorded; answers their external ids, in order.
    fn wait_for(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let facts = self.recorded();
            if facts.len() >= count {
                let ids = facts.iter().map(|fact| serde_json::from_str::<Value>(&fact.payload).unwrap());
                return ids.map(|fact| fact["external_id"].as_str().unwrap().to_owned()).collect();
            }
            let log = || std::fs::read_to_string(self.place.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "{} of {count} facts\n{}", facts.len(), log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn letters(&self, local: &str) -> Vec<Letter> {
        let (topic, subscription) = (self.options.topic(local), "commands".to_owned());
        let letters = Letters { topic, subscription, wanted: Wanted::Look, reason: None, limit: 1_000 };
        letters.run(&self.options).unwrap()
    }

    /// Waits until everything is acknowledged.
    fn settled(&self) {
        let began = Instant::now();
        let mut options = self.options.clone();
        options.commands = TOPICS
            .split(',')
            .map(|local| (local.to_owned(), kernel::PayloadSchema::of::<conversions::NewTouch>()))
            .collect();
        loop {
            let status = topics::status(&options).unwrap();
            let commands = status.iter().filter(|status| status.topic.contains("/commands."));
            if commands.map(|status| status.backlogs["commands"]).sum::<i64>() == 0 {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{status:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.place);
        let place = format!(
            "{}/admin/v2/namespaces/{}/{}",
            self.options.admin_url, self.options.tenant, self.options.namespace
        );
        let _ = ureq::delete(format!("{place}?force=true")).call();
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/pulsar/bin/python")
}

fn sale(external_id: &str) -> Value {
    json!({ "source": "shop", "external_id": external_id, "occurred_at": "2026-01-31T12:00:00Z",
        "amount": { "amount_minor": 1_999, "currency": "USD" } })
}

fn order(external_id: &str) -> Value {
    json!({ "topic": "commands.conversion", "value": sale(external_id) })
}

fn with(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

#[test]
fn commands_of_the_official_client_are_handled_exactly_once() {
    for kind in ["JSON", "AVRO"] {
        let Some(mut house) = House::build("commands of the official client", kind) else { return };
        house.serve(None);
        let mut orders: Vec<Value> = (0..40).map(|n| order(&n.to_string())).collect();
        orders[0] = with(orders[0].clone(), json!({ "key": "0", "properties": { "ce_correlationid": "trace-0" } }));
        orders[1]["value"] = with(
            sale("1"),
            json!({ "kind": null, "metadata": "{\"basket\": [1, null]}",
            "lines": [{ "amount_minor": 1_999, "category": "shoes" }] }),
        );
        orders.push(json!({ "topic": "commands.conversion", "record": sale("record") }));
        orders.push(json!({ "topic": "commands.touch", "value": { "source": "shop", "external_id": "touch",
            "campaign_id": "shop:spring", "partner_id": "shop:ana", "customer_ref": "c-1", "kind": "click",
            "occurred_at": "2026-01-31T11:00:00Z" } }));
        orders.push(json!({ "topic": "commands.refund", "value": { "source": "shop", "external_id": "refund",
            "conversion_external_id": "0", "occurred_at": "2026-02-01T11:00:00Z", "reason": "too small",
            "kind": "refund" } }));
        let twice = [orders.clone(), orders.clone()].concat();
        let refused = house.send(&twice);
        assert_eq!(refused.len(), 6, "only the topic's schema gets in: {refused:?}");
        house.send(&[order("last")]);
        let mut ids = house.wait_for(orders.len() + 1);
        house.settled();
        assert_eq!(house.recorded().len(), orders.len() + 1, "{kind}: nothing came in twice");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), orders.len() + 1);
        let facts = house.recorded();
        assert!(facts.iter().all(|fact| fact.actor == "commands"));
        let traced: Vec<_> = facts.iter().filter_map(|fact| fact.correlation_id.as_deref()).collect();
        assert_eq!(traced, ["trace-0"]);
        assert_eq!(house.letters("commands.conversion").len(), 0);
        assert_eq!(house.run(&["verify"])["ok"], true);
    }
}

#[test]
fn bad_commands_are_letters_within_five_seconds_and_go_through_after_the_repair() {
    for kind in ["JSON", "AVRO"] {
        let Some(mut house) = House::build("bad commands", kind) else { return };
        house.serve(None);
        house.send(&[order("first")]);
        house.wait_for(1);
        let raw = |text: &str, times: u32| json!({ "topic": "commands.conversion", "raw": text, "times": times });
        // Six seconds from now it is no longer more than a day ahead.
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let soon = Timestamp::from_micros(i64::try_from(clock.as_micros()).unwrap() + (24 * 3_600 + 8) * 1_000_000);
        let early = with(sale("early"), json!({ "occurred_at": soon.to_string() }));
        let planted = [
            (raw("\u{ff}\u{fe}\u{0}", 1), ["malformed_json", "does not fit"]),
            (raw("{\"source\":", 1), ["malformed_json", "does not fit"]),
            (raw("x", 5 * 1024 * 1024 - 3_000), ["body_too_large", "does not fit"]),
            (
                with(order("2"), json!({ "properties": { "ce_type": "commands.conversion.v2" } })),
                ["a newer version"; 2],
            ),
            (with(order("3"), json!({ "key": "first" })), ["the key is \"first\""; 2]),
            (
                json!({ "topic": "commands.conversion", "value": with(sale("4"), json!({ "kind": "gift" })) }),
                ["/kind"; 2],
            ),
            (
                json!({ "topic": "commands.conversion", "value": with(sale("first"), json!({ "code": "OTHER" })) }),
                ["fact_differs"; 2],
            ),
            (json!({ "topic": "commands.conversion", "value": early }), ["occurred_in_future"; 2]),
        ];
        let mut orders: Vec<Value> = planted.iter().map(|(order, _)| order.clone()).collect();
        orders.extend((10..60).map(|n| order(&n.to_string())));
        house.send(&orders);
        let began = Instant::now();
        let letters = loop {
            let letters = house.letters("commands.conversion");
            if letters.len() >= planted.len() && house.recorded().len() >= 51 {
                break letters;
            }
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{} letters of {}: {letters:?}",
                letters.len(),
                planted.len()
            );
        };
        for (order, reasons) in &planted {
            let words = reasons[usize::from(kind == "AVRO")];
            assert!(letters.iter().any(|letter| letter.reason.contains(words)), "{words}: {order} {letters:?}");
        }
        assert_eq!((letters.len(), house.recorded().len()), (planted.len(), 51));
        house.settled();
        // The repair, here: time passes.
        std::thread::sleep(Duration::from_secs(8).saturating_sub(began.elapsed()) + Duration::from_secs(1));
        let replay = ["topics", "replay", "--topic", "commands.conversion", "--reason", "occurred_in_future"];
        let sent = house.run(&replay);
        assert_eq!((sent.as_array().unwrap().len(), sent[0]["fate"].as_str()), (1, Some("sent")), "{sent}");
        assert!(house.wait_for(52).contains(&"early".to_owned()));
        assert_eq!(house.run(&replay), json!([]));
        // The others are as bad as before, but for the one that was cut: that one cannot go.
        let fates = house.run(&["topics", "replay", "--topic", "commands.conversion"]);
        let count = |fate: Fate| {
            let fate = serde_json::to_value(fate).unwrap();
            fates.as_array().unwrap().iter().filter(|letter| letter["fate"] == fate).count()
        };
        assert_eq!((count(Fate::Sent), count(Fate::Incomplete)), (planted.len() - 2, 1), "{fates}");
        house.settled();
        assert_eq!(house.letters("commands.conversion").len(), planted.len() - 1);
        let skipped = house.run(&["topics", "skip", "--topic", "commands.conversion"]);
        assert_eq!(skipped.as_array().unwrap().len(), planted.len() - 1);
        assert_eq!((house.letters("commands.conversion").len(), house.recorded().len()), (0, 52));
    }
}

#[test]
fn a_process_that_dies_between_commit_and_acknowledgement_records_nothing_twice() {
    let Some(mut house) = House::build("a process that dies", "JSON") else { return };
    let orders: Vec<Value> = (0..2_000).map(|n| order(&n.to_string())).collect();
    house.send(&orders);
    for moment in ["after_commit:1", "before_commit:1", "after_commit:2"] {
        house.serve(Some(&format!("commands:{moment}")));
        let ended = house.processes.pop().unwrap().wait().unwrap();
        assert!(!ended.success(), "{moment} was passed");
    }
    let before = house.recorded().len();
    assert!((1..2_000).contains(&before), "{before} were committed and never acknowledged");
    house.serve(None);
    let mut ids = house.wait_for(2_000);
    house.settled();
    assert_eq!(house.recorded().len(), 2_000);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2_000);
}

#[test]
fn two_processes_share_the_commands_over_one_server_and_one_may_die() {
    let Some(mut house) = House::build("two processes", "JSON") else { return };
    let Ok(base) = std::env::var("ALPES_TEST_POSTGRES") else {
        println!("NOT RUN: two processes: ALPES_TEST_POSTGRES names no server");
        return;
    };
    let name = house.options.namespace.replace('-', "_");
    let psql = |sql: String| {
        let status = Command::new("psql").args(["--quiet", "--dbname", &base, "--command", &sql]).status();
        assert!(status.unwrap().success(), "{sql}");
    };
    psql(format!("CREATE DATABASE {name}"));
    house.database = format!("{}/{name}", base.rsplit_once('/').unwrap().0);
    house.run(&["migrate"]);
    house.serve(None);
    house.serve(None);
    let orders: Vec<Value> = (0..3_000).map(|n| with(order(&n.to_string()), json!({ "key": n.to_string() }))).collect();
    house.send(&orders[..1_500]);
    house.wait_for(200);
    let mut first = house.processes.remove(0);
    first.kill().unwrap();
    first.wait().unwrap();
    house.send(&orders[1_500..]);
    let mut ids = house.wait_for(3_000);
    house.settled();
    assert_eq!(house.recorded().len(), 3_000);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3_000);
    house.processes.drain(..).for_each(|mut process| {
        process.kill().unwrap();
        process.wait().unwrap();
    });
    psql(format!("DROP DATABASE {name} WITH (FORCE)"));
}
