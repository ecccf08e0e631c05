//! The same events by Debezium and by our stream: whoever runs Debezium on the event log gets what the relay would tell.

use std::time::Duration;

use kernel::EventRecord;
use platform::event_log;
use serde_json::{Value, json};

use crate::java::Debezium;
use crate::throwaway::not_run;
use crate::world::{World, event, now, on_mariadb, on_postgres, pause, read};

const EVENTS: usize = 300;

#[test]
fn debezium_tells_the_same_events_of_postgres() {
    let Some(debezium) = not_run(Debezium::for_postgres("postgres"), "Debezium (see tests/debezium/README.md)") else {
        return;
    };
    on_postgres(|world| {
        let slot = format!("debezium_{}", world.name);
        let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
        let stream = world.open(0);
        world.sql(&create);
        let further = format!("slot.name={slot}\npublication.name=alpes_outbox\n");
        compare(world, &debezium, &further, stream);
        world.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    });
}

#[test]
fn debezium_tells_the_same_events_of_mariadb() {
    let Some(debezium) = not_run(Debezium::for_mariadb("mariadb"), "Debezium (see tests/debezium/README.md)") else {
        return;
    };
    on_mariadb(|world| {
        let stream = world.open(0);
        compare(world, &debezium, "", stream);
    });
}

fn compare(world: &World, debezium: &Debezium, further: &str, mut stream: cdc::Stream) {
    let out = debezium.file("events");
    let mut engine = debezium.start(&world.location, further, "full", EVENTS, &out);
    let deadline = now() + Duration::from_secs(90);
    while !is_reading(world) {
        assert!(now() < deadline && engine.0.try_wait().unwrap().is_none(), "{}", debezium.log(&out));
        pause(Duration::from_millis(200));
    }
    pause(Duration::from_secs(2));
    publish(world);
    let ours = read(&mut stream, EVENTS);
    assert_eq!(ours, world.table());
    while engine.0.try_wait().unwrap().is_none() {
        if now() > deadline + Duration::from_secs(60) {
            panic!("{}", debezium.log(&out));
        }
        pause(Duration::from_millis(200));
    }
    let text = std::fs::read_to_string(&out).unwrap();
    let theirs: Vec<&str> = text.lines().filter(|line| !line.starts_with("hwm_kib")).collect();
    assert_eq!(theirs.len(), EVENTS);
    for (event, line) in ours.iter().zip(theirs) {
        let [topic, key, value]: [&str; 3] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(topic, "alpes-events");
        assert_eq!(serde_json::from_str::<Value>(key).unwrap(), json!(event.subject));
        assert_eq!(serde_json::from_str::<Value>(value).unwrap(), as_debezium(event), "at {}", event.position);
    }
    println!("{EVENTS} events alike");
}

/// Whether Debezium has begun to read.
fn is_reading(world: &World) -> bool {
    let sql = if world.is_postgres() {
        format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'debezium_{}' AND active", world.name)
    } else {
        // Ours names its database.
        "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Binlog Dump' AND db IS NULL".to_owned()
    };
    world.number(&sql) > 0
}

fn publish(world: &World) {
    let texts = ["{}", "{\"name\":\"Žofie 🏔️ 山\",\"list\":[1,2.5,null,true]}", "{\"quote\":\"' \\\\ \\\" \\n\"}"];
    for n in 0..EVENTS / 3 {
        let mut events: Vec<_> = texts.iter().map(|text| event(&format!("s{}", n % 7), text)).collect();
        if n % 2 == 1 {
            let cause: EventRecord =
                world.db().read(|reader| event_log::range(reader, 0, 1, &[], 1)).unwrap().remove(0);
            events[1] = events[1].clone().caused_by(&cause);
            events[2].correlation_id = Some(format!("client ✓ {n}"));
        }
        if n == 50 {
            events[0].payload = format!("{{\"long\":\"{}\"}}", "é".repeat(400_000));
        }
        world.publish(&events);
    }
}

fn as_debezium(event: &EventRecord) -> Value {
    let hex = |id: kernel::EventId| id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({
        "payload": event.payload,
        "id": hex(event.id),
        "aggregatetype": event.aggregate,
        "aggregateid": event.subject,
        "type": event.event_type,
        "position": event.position,
        "occurred_at": event.time.as_micros(),
        "shard": event_log::shard(&event.subject),
        "actor": event.actor,
        "causationid": event.causation_id.map(hex),
        "correlationid": event.correlation_id,
    })
}
