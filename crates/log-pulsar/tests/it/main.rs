//! Against a real broker: ALPES_TEST_PULSAR=pulsar://host:port and ALPES_TEST_PULSAR_ADMIN=http://host:port. Without them
//! the tests say that they were not run.

mod broker;
mod sink;
