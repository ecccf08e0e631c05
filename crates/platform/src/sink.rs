//! Sinks: where a relay takes the events of the log: a broker, a file. It must not know what an event means.

use kernel::{EventRecord, Result};

/// A receiver of relayed events.
pub trait Sink: Send {
    /// Its name, for the relay's cursor and for people.
    fn name(&self) -> &str;

    /// Hands events over, in order of position; answers only when the receiver has made all of them durable. A fault of
    /// kind `Unavailable` means that the receiver may have some of them: the relay comes again with the same slice, so
    /// receivers see every event at least once, those of one subject in order.
    fn deliver(&mut self, events: &[EventRecord]) -> Result<()>;
}
