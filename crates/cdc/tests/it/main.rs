//! The streams against real servers, whose URLs are in `ALPES_TEST_POSTGRES` and `ALPES_TEST_MARIADB`. Each test has a
//! database and a slot of its own there.

mod events;
mod world;
