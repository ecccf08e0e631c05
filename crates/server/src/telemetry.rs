//! Logs: readable lines on a terminal, JSON otherwise, always on standard error, so that standard output stays clean.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level` (`ALPES_LOG` has the same form: `info`, `web=debug,info`).
pub(crate) fn start(level: &str) {
    // The broker's driver repeats itself many times a second while the broker is away; the relay says it once a second.
    let quiet = |level: &str| EnvFilter::try_new(format!("pulsar=off,{level}"));
    let filter = quiet(level).unwrap_or_else(|_| EnvFilter::new("pulsar=off,info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
}
