//! Our stream of PostgreSQL's log of changes against Debezium's, in one run on one machine: from the commit to the handler
//! at 200 and 1,000 events per second, and 100,000 events at once. The handler does nothing.
//!
//! `ALPES_TEST_POSTGRES=postgres://… cargo run --release -p cdc --example bench` prints the table and writes
//! docs/benchmarks-cdc.md and, beside it, the single results as JSON. Debezium: see tests/debezium/README.md.
#![expect(
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    reason = "a measurement: real time, and its statistics"
)]

#[path = "../../tests/it/java.rs"]
mod java;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cdc::Stream;
use kernel::{IdSource, ManualClock, Timestamp};
use platform::{Db, DbOptions, Location};
use postgres::{Client, NoTls};

use crate::java::{Debezium, Engine};
use crate::report::{Measured, Rate, Report};

const ROUNDS: usize = 3;
const WARM_UP: i64 = 1_000;
/// Events per second, and for how many seconds.
const RATES: [(i64, i64); 2] = [(200, 15), (1_000, 15)];
const BACKLOG: i64 = 100_000;
const CONTENDERS: [&str; 3] = ["Alpes", "Debezium, as it comes", "Debezium, tuned"];
const TUNED: &str = "poll.interval.ms=5\nmax.batch.size=8192\nmax.queue.size=32768\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, url, count, out] = arguments.as_slice()
        && command == "read"
    {
        return read(url, count.parse().expect("a count"), Path::new(out));
    }
    let Ok(server) = std::env::var("ALPES_TEST_POSTGRES") else { return println!("NOT RUN: no ALPES_TEST_POSTGRES") };
    let Some(debezium) = Debezium::for_postgres("bench") else {
        return println!("NOT RUN: see tests/debezium/README.md");
    };
    let bench = Bench::new(&server, debezium);
    let mut report = Report::new(CONTENDERS);
    for round in 0..ROUNDS {
        for turn in 0..CONTENDERS.len() {
            // Each comes first once.
            let contender = (round + turn) % CONTENDERS.len();
            report.latency(contender, &bench.latency(contender));
            report.drain(contender, &bench.drain(contender));
        }
    }
    let version = bench.client().query_one("SHOW server_version", &[]).expect("a server").get(0);
    report.write(Path::new(env!("CARGO_MANIFEST_DIR")), version);
}

struct Bench {
    server: String,
    database: String,
    url: String,
    location: Location,
    debezium: Debezium,
}

impl Bench {
    fn new(server: &str, debezium: Debezium) -> Self {
        let database = format!("cdc_bench_{}", std::process::id());
        execute(server, &format!("CREATE DATABASE {database}"));
        let url = format!("{}/{database}", server.rsplit_once('/').expect("a URL with a database").0);
        let location = Location::parse(&url, Path::new(".")).expect("a URL");
        let options = DbOptions {
            clock: Arc::new(ManualClock::at(Timestamp::from_micros(0))),
            ids: IdSource::from_number(1),
            hook: None,
            migrations: vec![platform::MIGRATIONS],
        };
        drop(Db::open(&location, options).expect("tables"));
        Self { server: server.to_owned(), database, url, location, debezium }
    }

    fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("a server")
    }

    /// An empty log, and a slot for the contender whose turn it is.
    fn prepare(&self) {
        execute(&self.url, "TRUNCATE outbox_event; UPDATE log_head SET position = 0; CHECKPOINT");
        cdc::setup(&self.location, "bench").expect("a slot");
    }

    fn finish(&self) {
        // A reader that has just ended may still be counted as one.
        while cdc::remove(&self.location, "bench").is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start(&self, contender: usize, count: i64) -> (Engine, PathBuf) {
        let out = self.debezium.file("bench");
        let child = if contender == 0 {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["read", &self.url, &count.to_string()]).arg(&out).stderr(Stdio::null());
            Engine(command.spawn().expect("this program"))
        } else {
            let _ = std::fs::remove_file(format!("{}.offsets", out.display()));
            let tuned = if contender == 2 { TUNED } else { "" };
            let further = format!("slot.name=alpes_bench\npublication.name=alpes_outbox\n{tuned}");
            let count = usize::try_from(count).expect("a count");
            self.debezium.start(&self.location, &further, "times", count, &out)
        };
        (child, out)
    }

    fn latency(&self, contender: usize) -> Measured {
        self.prepare();
        let count = WARM_UP + RATES.iter().map(|(rate, seconds)| rate * seconds).sum::<i64>();
        let (mut reader, out) = self.start(contender, count);
        let mut client = self.client();
        let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'alpes_bench'";
        while !client.query_one(active, &[]).expect("a slot").get::<_, bool>(0) {
            assert!(reader.0.try_wait().expect("a child").is_none(), "{}", self.debezium.log(&out));
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        let mut written = Vec::new();
        write(&mut client, &mut written, 200, WARM_UP);
        let mut rates = Vec::new();
        for (rate, seconds) in RATES {
            let (first, began) = (written.len(), Instant::now());
            write(&mut client, &mut written, rate, rate * seconds);
            let reached = (rate * seconds) as f64 / began.elapsed().as_secs_f64();
            rates.push(Rate { per_second: rate, reached, first, last: written.len() });
        }
        assert!(reader.0.wait().expect("a child").success(), "{}", self.debezium.log(&out));
        self.finish();
        report::read(&out, written, rates)
    }

    fn drain(&self, contender: usize) -> Measured {
        self.prepare();
        let mut client = self.client();
        let sql = "INSERT INTO outbox_event SELECT n, decode(md5(n::text), 'hex'), 'conversion', 'cnv_' || n % 1000,
                   'conversions.recorded.v1', $3, n, 0, 'bench', NULL, NULL FROM generate_series($1::bigint, $2::bigint) n";
        for first in (1..=BACKLOG).step_by(500) {
            client.execute(sql, &[&first, &(first + 499), &payload()]).expect("an insert");
        }
        let began = micros();
        let (mut reader, out) = self.start(contender, BACKLOG);
        assert!(reader.0.wait().expect("a child").success(), "{}", self.debezium.log(&out));
        self.finish();
        report::read(&out, vec![(began, began)], Vec::new())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = cdc::remove(&self.location, "bench");
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.database));
    }
}

/// Events at equal distances. What is due when the last commit is done goes into one commit, as the product's writer does
/// it: a slow disk then makes larger commits, not a lower rate. Notes when each event was issued and acknowledged.
fn write(client: &mut Client, written: &mut Vec<(i64, i64)>, per_second: i64, count: i64) {
    let sql = "INSERT INTO outbox_event SELECT n, decode(md5(n::text), 'hex'), 'conversion', 'cnv_' || n % 1000,
               'conversions.recorded.v1', $3, $4, 0, 'bench', NULL, NULL FROM generate_series($1::bigint, $2::bigint) n";
    let insert = client.prepare(sql).expect("an insert");
    let (began, text, before) = (Instant::now(), payload(), i64::try_from(written.len()).expect("few"));
    let mut done = 0;
    while done < count {
        let due = began + Duration::from_micros(u64::try_from(done * 1_000_000 / per_second).expect("a time"));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let passed = i64::try_from(began.elapsed().as_micros()).expect("a short time");
        let all_due = (passed * per_second / 1_000_000 + 1).min(count);
        let issued = micros();
        client.execute(&insert, &[&(before + done + 1), &(before + all_due), &text, &issued]).expect("an insert");
        let acknowledged = micros();
        written.extend((done..all_due).map(|_| (issued, acknowledged)));
        done = all_due;
    }
}

fn payload() -> String {
    format!("{{\"conversion\":\"cnv_01h2xcejqtf2nbrexx3vqjhp41\",\"note\":\"{}\"}}", "x".repeat(330))
}

fn execute(url: &str, sql: &str) {
    let mut client = Client::connect(url, NoTls).expect("a server");
    for statement in sql.split(';') {
        // Only a superuser may ask for a checkpoint.
        if let Err(error) = client.batch_execute(statement)
            && !statement.contains("CHECKPOINT")
        {
            panic!("{statement}: {error}");
        }
    }
}

fn micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294000")
}

/// Our reader, in a process of its own as Debezium's is.
fn read(url: &str, count: usize, out: &Path) {
    let location = Location::parse(url, Path::new(".")).expect("a URL");
    let mut stream = Stream::open(&location, "bench", 0, None).expect("a stream");
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let events = stream.next(Duration::from_secs(1)).expect("events");
        let now = micros();
        times.extend(events.iter().map(|event| (event.position, now)));
        if let Some(last) = events.last() {
            stream.acknowledge(last.position).expect("an acknowledgement");
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
    let digits: String = peak.chars().filter(char::is_ascii_digit).collect();
    let lines: Vec<String> = times.iter().map(|(position, time)| format!("{position} {time}")).collect();
    std::fs::write(out, format!("{}\nhwm_kib {digits}\n", lines.join("\n"))).expect("a file");
}
