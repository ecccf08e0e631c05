//! What comes through a stream: every column, in order, committed work only, without gap.

use std::time::Duration;

use cdc::{must_catch_up, must_set_up};
use kernel::{EventId, EventRecord, Fault};
use platform::Lane;

use crate::world::{World, event, fault_of, now, on_each, on_mariadb, positions, read};

#[test]
fn every_column_and_null_survives() {
    on_each(|world| {
        let mut stream = world.open(0);
        let unicode = "{\"name\":\"Žofie 🏔️ 山 \\u0000 ' \\\\ \"}";
        world.publish(&[event("a", unicode), event("Ünïcode/🏔", "{}"), event("", "")]);
        let cause = world.table().remove(0);
        let mut caused = event("b", "{}").caused_by(&cause);
        caused.correlation_id = Some("the client's own ✓".to_owned());
        world.publish(&[caused]);
        let found = read(&mut stream, 4);
        assert_eq!(found, world.table());
        let last = &found[3];
        assert_eq!((last.causation_id, last.correlation_id.as_deref()), (Some(cause.id), Some("the client's own ✓")));
        assert_eq!((found[0].causation_id, found[0].correlation_id.as_deref()), (None, None));
    });
}

#[test]
fn an_id_with_zeros_at_its_end_is_whole() {
    on_each(|world| {
        let mut stream = world.open(0);
        let id = "00112233445566778899aabb00000000";
        let literal = if world.is_postgres() { format!("'\\x{id}'") } else { format!("X'{id}'") };
        world.sql(&format!(
            "INSERT INTO outbox_event VALUES (1, {literal}, 'a', 'b', 'c', 'd', -5, 0, 'e', {literal}, NULL)"
        ));
        let found = read(&mut stream, 1);
        let mut expected = [0; 16];
        expected[..12].copy_from_slice(&[0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb]);
        assert_eq!(found[0].id, EventId::from_bytes(expected));
        assert_eq!((found[0].causation_id, found[0].time.as_micros()), (Some(EventId::from_bytes(expected)), -5));
    });
}

#[test]
fn a_transaction_that_rolls_back_is_not_seen() {
    on_each(|world| {
        let mut stream = world.open(0);
        world.publish(&[event("a", "1")]);
        let undone = world.db().write("test", Lane::Front, "tester", |tx| -> kernel::Result<()> {
            tx.publish(&[event("never", "2")])?;
            Err(Fault::internal("on purpose"))
        });
        assert!(undone.is_err());
        world.publish(&[event("b", "3")]);
        let found = read(&mut stream, 2);
        assert_eq!((positions(&found), found[1].payload.as_str()), (vec![1, 2], "3"));
    });
}

#[test]
fn large_payloads_and_large_transactions_come_in_pieces() {
    on_each(|world| {
        let mut stream = world.open(0);
        let large = "é".repeat(3 << 20);
        world.publish(&[event("a", &large), event("b", &large), event("c", "{}")]);
        let many: Vec<_> = (0..20_000).map(|n| event(&format!("s{n}"), "{\"some\":\"payload\"}")).collect();
        world.publish(&many);
        let (mut found, mut largest): (Vec<EventRecord>, _) = (Vec::new(), 0);
        let deadline = now() + crate::world::PATIENCE;
        while found.len() < 20_003 && now() < deadline {
            let batch = stream.next(Duration::from_secs(5)).unwrap();
            largest = largest.max(batch.len());
            found.extend(batch);
        }
        assert!(found == world.table(), "{} events", found.len());
        assert!(largest <= 4_096, "{largest} at once");
    });
}

#[test]
fn what_was_committed_before_the_stream_is_said_to_be_missing() {
    on_each(|world| {
        world.publish(&[event("before", "1")]);
        // No further event comes: the fault does not wait for one.
        let mut stream = world.open(0);
        let fault = fault_of(&mut stream);
        assert!(must_catch_up(&fault) && !must_set_up(&fault), "{fault}");
        assert_eq!(stream.next(Duration::ZERO).unwrap_err().code(), fault.code(), "a broken stream stays so");
        drop(stream);
        // After the relay has read the table, the stream goes on behind that.
        let mut stream = world.open(1);
        assert!(stream.next(Duration::from_millis(300)).unwrap().is_empty());
        world.publish(&[event("after", "2")]);
        assert_eq!(positions(&read(&mut stream, 1)), [2]);
    });
}

#[test]
fn a_stream_can_be_asked_without_waiting() {
    on_each(|world| {
        let mut stream = world.open(0);
        world.publish(&[event("a", "1")]);
        let deadline = now() + crate::world::PATIENCE;
        while stream.next(Duration::ZERO).unwrap().is_empty() {
            assert!(now() < deadline, "it never comes");
        }
    });
}

#[test]
fn a_gap_is_found_and_what_came_before_it_is_told() {
    on_each(|world| {
        let mut stream = world.open(0);
        world.publish(&[event("a", "1")]);
        world.sql("UPDATE log_head SET position = 2");
        world.publish(&[event("b", "3")]);
        assert_eq!(positions(&read(&mut stream, 1)), [1]);
        assert!(must_catch_up(&fault_of(&mut stream)));
    });
}

#[test]
fn places_are_shown_with_what_is_kept_for_them_and_whether_somebody_reads() {
    on_each(|world| {
        assert_eq!(cdc::slots(&world.location).unwrap(), []);
        let mut stream = world.open(0);
        world.publish(&[event("a", "1")]);
        read(&mut stream, 1);
        let slots = cdc::slots(&world.location).unwrap();
        let [slot] = &slots[..] else { panic!("{slots:?}") };
        assert!(slot.is_active && !slot.status.is_empty(), "{slot:?}");
        let name = if world.is_postgres() { format!("alpes_{}", world.name) } else { "binlog".to_owned() };
        assert_eq!((&slot.name, slot.behind_bytes.is_some()), (&name, world.is_postgres()));
        drop(stream);
        // PostgreSQL keeps the place for the reader that is away.
        let deadline = now() + crate::world::PATIENCE;
        let is_kept = usize::from(world.is_postgres());
        let rests = |slots: &[cdc::Slot]| slots.len() == is_kept && slots.iter().all(|slot| !slot.is_active);
        while !rests(&cdc::slots(&world.location).unwrap()) {
            assert!(now() < deadline, "{:?}", cdc::slots(&world.location));
            crate::world::pause(Duration::from_millis(50));
        }
    });
    assert_eq!(cdc::slots(&platform::Location::directory("/nowhere")).unwrap(), []);
}

/// `ALPES_TEST_POSTGRES_CA` and `ALPES_TEST_MARIADB_CA` name the authorities of the servers' certificates.
#[test]
fn a_stream_may_be_encrypted_and_the_server_known() {
    on_each(|world| {
        let variable = if world.is_postgres() { "ALPES_TEST_POSTGRES_CA" } else { "ALPES_TEST_MARIADB_CA" };
        let Ok(authority) = std::env::var(variable) else {
            println!("NOT RUN: {variable} is not set");
            return;
        };
        let location = |url: &str, parameters: &str| {
            platform::Location::parse(&format!("{url}?sslmode={parameters}"), std::path::Path::new(".")).unwrap()
        };
        let token = cdc::setup(&world.location, &world.name).unwrap();
        // The certificate is for the name.
        let named = world.url.replace("127.0.0.1", "localhost");
        let verified = format!("verify-full&sslrootcert={authority}");
        for (nth, (url, mode)) in (1..).zip([(&world.url, "require"), (&named, verified.as_str())]) {
            let place = location(url, mode);
            cdc::preflight(&place, &world.name).unwrap();
            let mut stream = crate::world::resumed(&place, &world.name, nth - 1, &token);
            // More than one record of the encryption's.
            let large = "x".repeat(100_000);
            world.publish(&[event("a", &large)]);
            let events = read(&mut stream, 1);
            assert_eq!((positions(&events), events[0].payload.contains(&large)), (vec![nth], true));
            stream.acknowledge(nth).unwrap();
        }
        let stranger = location(&world.url, "verify-full");
        let misnamed = location(&world.url, &verified);
        for place in [stranger, misnamed] {
            let fault = cdc::preflight(&place, &world.name).unwrap_err();
            assert!(fault.detail().contains("certificate is not accepted"), "{fault}");
            let fault = cdc::Stream::open(&place, &world.name, 2, Some(&token)).map(drop).unwrap_err();
            assert!(fault.detail().contains("certificate is not accepted"), "{fault}");
        }
    });
}

#[test]
fn acknowledged_places_move_and_changes_of_other_tables_do_not_hold_back_the_log() {
    on_each(|world| {
        let mut stream = world.open(0);
        world.publish(&[event("a", "1"), event("b", "2")]);
        world.publish(&[event("c", "3")]);
        read(&mut stream, 3);
        let begin = stream.resume_token();
        stream.acknowledge(1).unwrap();
        assert_eq!(stream.resume_token(), begin, "half a transaction is not a place");
        stream.acknowledge(2).unwrap();
        let second = stream.resume_token();
        assert_ne!(second, begin);
        assert!(stream.lag().unwrap().is_active);
        stream.acknowledge(3).unwrap();
        let third = stream.resume_token();
        assert_ne!(third, second);
        world.sql("CREATE TABLE other (a BIGINT)");
        world.sql("INSERT INTO other VALUES (1)");
        let deadline = now() + crate::world::PATIENCE;
        while stream.resume_token() == third {
            assert!(now() < deadline, "{:?}", stream.lag());
            assert!(stream.next(Duration::from_millis(200)).unwrap().is_empty());
        }
    });
}

#[test]
fn the_binary_log_may_rotate() {
    on_mariadb(|world| {
        let mut stream = world.open(0);
        for n in 0..20 {
            world.publish(&[event("a", &n.to_string())]);
            world.sql("FLUSH BINARY LOGS");
        }
        assert_eq!(read(&mut stream, 20), world.table());
        stream.acknowledge(10).unwrap();
        assert_eq!(stream.lag().unwrap().status, "kept");
        let token = stream.resume_token();
        drop(stream);
        world.sql("FLUSH BINARY LOGS");
        world.publish(&[event("a", "last")]);
        let mut stream: cdc::Stream = world.resume(10, &token);
        assert_eq!(positions(&read(&mut stream, 11)), (11..=21).collect::<Vec<_>>());
    });
}

#[test]
fn nothing_but_committed_events_of_this_database_comes() {
    on_each(|world: &World| {
        let other = World::new(&world.server_url);
        let mut stream = world.open(0);
        other.publish(&[event("theirs", "1"), event("theirs", "2")]);
        world.publish(&[event("ours", "1")]);
        world.sql("UPDATE outbox_event SET actor = 'changed'");
        world.sql("DELETE FROM outbox_event");
        world.publish(&[event("ours", "2")]);
        let found = read(&mut stream, 2);
        assert_eq!((positions(&found), found[0].actor.as_str()), (vec![1, 2], "tester"));
        assert!(found.iter().all(|event| event.subject == "ours"));
        assert!(stream.next(Duration::from_millis(300)).unwrap().is_empty());
    });
}
