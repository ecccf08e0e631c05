//! The streams against real servers, whose URLs are in `ALPES_TEST_POSTGRES` and `ALPES_TEST_MARIADB`. Each test has a
//! database and a slot of its own there; what needs other settings starts a throw-away server.

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod debezium;
#[cfg(test)]
mod events;
#[cfg(test)]
mod java;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod throwaway;
#[cfg(test)]
mod world;
