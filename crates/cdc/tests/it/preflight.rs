//! Settings under which the stream could not keep its promises are refused with the line to change; a place that was lost
//! is said to be lost.

use std::path::Path;
use std::time::Duration;

use cdc::{must_catch_up, must_set_up};
use kernel::Fault;
use mysql::prelude::Queryable as _;
use platform::Location;

use crate::throwaway::{Server, location, not_run};
use crate::world::{World, event, fault_of, now, on_each, open, pause, positions, read, sql};

#[track_caller]
fn assert_refused(url: &str, line: &str) {
    let fault = cdc::preflight(&location(url), "test").expect_err(line);
    assert_eq!(fault.code(), "database_refused", "{fault}");
    assert!(fault.detail().contains(line), "{fault}");
}

#[test]
fn the_right_settings_are_accepted() {
    on_each(|world| cdc::preflight(&world.location, &world.name).unwrap());
}

#[test]
fn a_directory_and_a_bad_name_are_refused() {
    let directory = Location::directory("/nowhere");
    let refused = |location: &Location, name: &str| cdc::preflight(location, name).unwrap_err();
    assert_eq!(refused(&directory, "relay").code(), "database_refused");
    let server = Location::parse("postgres://a:b@127.0.0.1:1/c", Path::new(".")).unwrap();
    for name in ["", "Relay", "a-b", "a\"b", &"a".repeat(41)] {
        assert_eq!(refused(&server, name).code(), "database_refused", "{name:?}");
    }
    assert_eq!(refused(&server, "relay").code(), "unavailable");
}

#[test]
fn wrong_settings_of_postgres_are_refused() {
    let Some(mut server) = not_run(Server::postgres(), "PostgreSQL") else { return };
    let url = server.url();
    server.start(&["wal_level=replica"]);
    sql(&url, "CREATE ROLE plain LOGIN");
    assert_refused(&url, "`wal_level = logical` in postgresql.conf and restart");
    server.start(&["max_slot_wal_keep_size=-1"]);
    assert_refused(&url, "`max_slot_wal_keep_size = 10GB` in postgresql.conf");
    server.start(&["max_replication_slots=1", "max_wal_senders=1"]);
    cdc::preflight(&location(&url), "test").unwrap();
    assert_refused(&server.url_of("plain"), "`ALTER ROLE plain REPLICATION` as superuser");
    let db = open(&location(&url));
    cdc::setup(&location(&url), "other").unwrap();
    assert_refused(&url, "`max_replication_slots = 5` in postgresql.conf and restart");
    cdc::preflight(&location(&url), "other").unwrap();
    sql(&url, "ALTER ROLE plain REPLICATION; DROP PUBLICATION alpes_outbox");
    let fault = cdc::setup(&location(&server.url_of("plain")), "mine").unwrap_err();
    assert!(fault.detail().contains("`CREATE PUBLICATION alpes_outbox FOR TABLE outbox_event"), "{fault}");
    drop(db);
    server.start(&["max_replication_slots=4", "max_wal_senders=1"]);
    cdc::setup(&location(&url), "other").unwrap();
    let stream = cdc::Stream::open(&location(&url), "other", 0, None).unwrap();
    cdc::preflight(&location(&url), "other").unwrap();
    assert_refused(&url, "`max_wal_senders = 5` in postgresql.conf and restart");
    drop(stream);
}

#[test]
fn a_slot_of_another_database_and_a_second_reader_are_refused() {
    on_each(|world: &World| {
        if !world.is_postgres() {
            return;
        }
        let stream = world.open(0);
        let second = |location| cdc::Stream::open(location, &world.name, 0, None).map(drop).unwrap_err();
        let fault: Fault = second(&world.location);
        assert_eq!((fault.code(), fault.detail()), ("unavailable", "another reader has the slot"));
        let other = World::new(&world.server_url);
        assert_eq!(second(&other.location).code(), "database_refused");
        drop(stream);
    });
}

#[test]
fn a_slot_that_was_given_up_is_said_to_be_lost() {
    let Some(mut server) = not_run(Server::postgres(), "PostgreSQL") else { return };
    server.start(&["max_slot_wal_keep_size=2MB", "max_wal_size=4MB"]);
    let (url, place) = (server.url(), location(&server.url()));
    let db = open(&place);
    let publish = |payload: &str| {
        db.write("test", platform::Lane::Front, "tester", |tx| tx.publish(&[event("a", payload)])).unwrap()
    };
    let token = cdc::setup(&place, "test").unwrap();
    let mut stream = cdc::Stream::open(&place, "test", 0, Some(&token)).unwrap();
    publish("1");
    assert_eq!(positions(&read(&mut stream, 1)), [1]);
    let lag = stream.lag().unwrap();
    assert_eq!((lag.status.as_str(), lag.limit_bytes, lag.is_active), ("reserved", Some(2 << 20), true));
    // It is not acknowledged, and much is written meanwhile: the server ends the reader and gives the slot up.
    sql(&url, "CREATE TABLE filler (text TEXT)");
    let deadline = now() + crate::world::PATIENCE;
    while stream.lag().unwrap().status != "lost" {
        assert!(now() < deadline, "{:?}", stream.lag());
        sql(&url, "INSERT INTO filler SELECT repeat(md5(n::text), 40) FROM generate_series(1, 3000) n");
        sql(&url, "CHECKPOINT");
        pause(Duration::from_millis(50));
    }
    publish("2");
    assert_eq!(fault_of(&mut stream).code(), "unavailable");
    drop(stream);
    let slots = cdc::slots(&place).unwrap();
    assert_eq!((slots.len(), slots[0].status.as_str(), slots[0].is_active), (1, "lost", false), "{slots:?}");
    let fault = cdc::Stream::open(&place, "test", 1, Some(&token)).map(drop).unwrap_err();
    assert!(must_set_up(&fault) && must_catch_up(&fault), "{fault}");
    // What the relay does then.
    cdc::remove(&place, "test").unwrap();
    let token = cdc::setup(&place, "test").unwrap();
    let mut stream = cdc::Stream::open(&place, "test", 2, Some(&token)).unwrap();
    publish("3");
    assert_eq!(positions(&read(&mut stream, 1)), [3]);
    drop(stream);
    cdc::remove(&place, "test").unwrap();
    assert!(must_set_up(&cdc::Stream::open(&place, "test", 3, None).map(drop).unwrap_err()), "no slot");
}

#[test]
fn wrong_settings_of_mariadb_are_refused() {
    let Some(mut server) = not_run(Server::mariadb(), "MariaDB") else { return };
    let url = server.url();
    for (setting, line) in [
        ("--skip-log-bin", "`log_bin = alpes-bin` under [mysqld] and restart"),
        ("--binlog-format=MIXED", "`binlog_format = ROW` under [mysqld] and restart"),
        ("--binlog-row-image=MINIMAL", "`binlog_row_image = FULL` under [mysqld] and restart"),
        ("--log-bin-compress=ON", "`log_bin_compress = OFF` under [mysqld] and restart"),
        ("--binlog-expire-logs-seconds=3600", "`binlog_expire_logs_seconds = 604800` under [mysqld] and restart"),
    ] {
        server.start(&[setting]);
        assert_refused(&url, line);
    }
    server.start(&[]);
    cdc::preflight(&location(&url), "test").unwrap();
    sql(&url, "CREATE USER plain@'127.0.0.1'");
    sql(&url, "GRANT ALL ON alpes.* TO plain@'127.0.0.1'");
    let plain = server.url_of("plain");
    assert_refused(&plain, "`GRANT REPLICATION SLAVE ON *.* TO plain`");
    sql(&url, "GRANT REPLICATION SLAVE ON *.* TO plain@'127.0.0.1'");
    assert_refused(&plain, "`GRANT BINLOG MONITOR ON *.* TO plain`");
    sql(&url, "GRANT BINLOG MONITOR ON *.* TO plain@'127.0.0.1'");
    cdc::preflight(&location(&plain), "test").unwrap();
}

#[test]
fn compressed_rows_end_the_stream_and_a_purged_log_has_lost_the_place() {
    let Some(mut server) = not_run(Server::mariadb(), "MariaDB") else { return };
    server.start(&[]);
    let (url, place) = (server.url(), location(&server.url()));
    let db = open(&place);
    let publish = |payload: &str| {
        db.write("test", platform::Lane::Front, "tester", |tx| tx.publish(&[event("a", payload)])).unwrap()
    };
    let token = cdc::setup(&place, "test").unwrap();
    let mut stream = cdc::Stream::open(&place, "test", 0, Some(&token)).unwrap();
    publish("plain");
    sql(&url, "SET GLOBAL log_bin_compress = ON");
    publish(&"compressed ".repeat(200));
    assert_eq!(positions(&read(&mut stream, 1)), [1]);
    let fault = fault_of(&mut stream);
    assert!(must_set_up(&fault) && fault.detail().contains("the unknown kind 166"), "{fault}");
    drop(stream);
    sql(&url, "SET GLOBAL log_bin_compress = OFF");
    purge(&url);
    let mut stream = cdc::Stream::open(&place, "test", 1, Some(&token)).unwrap();
    let fault = fault_of(&mut stream);
    assert!(must_set_up(&fault), "{fault}");
    let token = cdc::setup(&place, "test").unwrap();
    let mut stream = cdc::Stream::open(&place, "test", 2, Some(&token)).unwrap();
    publish("3");
    assert_eq!(positions(&read(&mut stream, 1)), [3]);
}

/// Deletes all files of the binary log but the newest; one that somebody still reads is kept for a while.
fn purge(url: &str) {
    let mut conn = mysql::Conn::new(url).unwrap();
    let deadline = now() + crate::world::PATIENCE;
    loop {
        conn.query_drop("FLUSH BINARY LOGS").unwrap();
        let files: Vec<(String, u64)> = conn.query("SHOW BINARY LOGS").unwrap();
        conn.query_drop(format!("PURGE BINARY LOGS TO '{}'", files.last().unwrap().0)).unwrap();
        if conn.query::<(String, u64), _>("SHOW BINARY LOGS").unwrap().len() == 1 {
            return;
        }
        assert!(now() < deadline, "the log is not purged");
        pause(Duration::from_millis(200));
    }
}
