//! Prints what one event costs in the store, on disk and in memory: `cargo run --release -p platform --example measure`.

use std::sync::Arc;
use std::time::Instant;

use kernel::{IdSource, ManualClock, NewEvent, Result, Timestamp};
use platform::{Consumer, Db, DbOptions, Lane, Location, MIGRATIONS, Runner, Step, seal};

const BATCH: u32 = 512;
const BATCHES: u32 = 200;

fn options() -> DbOptions {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
    DbOptions { clock, ids: IdSource::from_number(1), hook: None, migrations: vec![MIGRATIONS] }
}

fn event(n: u32) -> NewEvent {
    NewEvent {
        event_type: "conversions.conversion_recorded.v1",
        aggregate: "conversion",
        subject: format!("cnv_{n:026}"),
        payload: format!("{{\"conversion_id\":\"cnv_{n:026}\",\"text\":\"{}\"}}", "x".repeat(350)),
        causation_id: None,
        correlation_id: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn timed(name: &str, events: u32, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    work()?;
    let took = began.elapsed();
    println!("  {name:<40} {:>8} ns per event", took.as_nanos() / u128::from(events));
    Ok(())
}

fn measure(db: &Db) -> Result<()> {
    let batches: Vec<Vec<NewEvent>> =
        (0..BATCHES).map(|batch| (0..BATCH).map(|n| event(batch * BATCH + n)).collect()).collect();
    let all = BATCHES * BATCH;
    timed("publish, 512 per transaction", all, || {
        batches.iter().try_for_each(|batch| db.write("measure", Lane::Front, "key", |tx| tx.publish(batch)).map(|_| ()))
    })?;
    timed("checkpoint", all, || db.checkpoint())?;
    let react = |_: &mut platform::Tx<'_>, _: &[kernel::EventRecord]| Ok(());
    let types = vec!["conversions.conversion_recorded.v1"];
    let mut runner = Runner::new(Consumer { name: "measure", types, react: Box::new(react) });
    timed("a consumer that does nothing", all, || {
        while runner.step(db)? != Step::Idle {}
        Ok(())
    })?;
    timed("seal", all, || {
        while seal::step(db)? > 0 {}
        Ok(())
    })?;
    timed("verify the seal", all, || db.read(seal::verify).map(|_| ()))?;
    let one = [event(0)];
    timed("publish, one per transaction", 500, || {
        (0..500).try_for_each(|_| db.write("measure", Lane::Front, "key", |tx| tx.publish(&one)).map(|_| ()))
    })?;
    println!("  {:<40} {:>8} bytes per event", "on disk", db.size_bytes() / u64::from(all));
    Ok(())
}

fn main() -> Result<()> {
    println!("in memory");
    measure(&Db::in_memory(options())?)?;
    let directory = std::env::temp_dir().join(format!("alpes-measure-{}", std::process::id()));
    println!("on disk, {}", directory.display());
    let outcome = Db::open(&Location::directory(&directory), options()).and_then(|db| measure(&db));
    let _ = std::fs::remove_dir_all(&directory);
    outcome
}
