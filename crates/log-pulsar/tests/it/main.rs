//! Against a real broker: ALPES_TEST_PULSAR=pulsar://host:port and ALPES_TEST_PULSAR_ADMIN=http://host:port. Without them
//! the tests say that they were not run.

#![expect(clippy::disallowed_methods, reason = "tests of a driver adapter wait for a broker and kill it meanwhile")]
#![expect(clippy::unwrap_used, reason = "everything here is a test")]

mod asyncapi;
mod bridge;
mod broker;
mod conformance;
mod interop;
mod sink;
mod subscription;
