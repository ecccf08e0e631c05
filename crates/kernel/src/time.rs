//! Time as an argument: microseconds since 1970 in UTC, and the clock that hands it out. The real clock lives in the
//! server; everything else is given one.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in microseconds, zero or more.
pub type Duration = std::time::Duration;

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// 1900-01-01T00:00:00Z and 9999-12-30T22:00:00Z, the last microsecond that the library writes: what a fact may claim.
const EARLIEST: i64 = -2_208_988_800_000_000;
const LATEST: i64 = 253_402_207_200_000_000;

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Later by `span`; stays at the last instant that can be written, in the year 9999.
    pub fn plus(self, span: Duration) -> Self {
        let later = self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        Self(later.min(LATEST.max(self.0)))
    }

    /// Earlier by `span`; stays at the first instant that can be written, in the year 1900.
    pub fn minus(self, span: Duration) -> Self {
        let earlier = self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        Self(earlier.max(EARLIEST.min(self.0)))
    }

    /// Later by whole days of 86,400 seconds.
    pub fn plus_days(self, days: u32) -> Self {
        self.plus(Duration::from_secs(u64::from(days) * 86_400))
    }

    /// The UTC day, as `YYYY-MM-DD`.
    pub fn day(self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => fmt::Display::fmt(&instant, f),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a date and time with a zone between the years 1900 and 9999, for example 2026-01-31T12:00:00Z")]
pub struct TimeError;

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Reads RFC 3339 with a zone; finer than a microsecond is cut off.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let plain = text.len() <= 40 && text.as_bytes().get(10) == Some(&b'T') && !text.contains('[');
        let instant: jiff::Timestamp = plain.then(|| text.parse().ok()).flatten().ok_or(TimeError)?;
        let micros = instant.as_microsecond();
        if (EARLIEST..=LATEST).contains(&micros) { Ok(Self(micros)) } else { Err(TimeError) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-01-31T12:00:00Z"])
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
}

/// Hands out the current instant.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// A clock that stands until it is moved: tests, the simulator and the demo.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    /// Moves the clock, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_zones_and_refuses_the_rest() {
        let utc: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!("2026-01-31T14:00:00+02:00".parse::<Timestamp>().unwrap(), utc);
        assert_eq!(utc.to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(utc.day(), "2026-01-31");
        for bad in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "0000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00Z[UTC]",
            "1769860800",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_stay_where_they_can_be_written() {
        let latest = Timestamp::from_micros(LATEST);
        let earliest = Timestamp::from_micros(EARLIEST);
        assert_eq!(latest.to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(earliest.to_string(), "1900-01-01T00:00:00Z");
        for time in [latest, earliest, Timestamp::default()] {
            for moved in [time.plus_days(u32::MAX), time.plus(Duration::MAX), time.minus(Duration::MAX)] {
                assert_eq!(moved.to_string().parse(), Ok(moved), "{time} {moved}");
            }
        }
        assert_eq!((latest.plus(Duration::from_secs(1)), earliest.minus(Duration::from_secs(1))), (latest, earliest));
        let beyond = Timestamp::from_micros(i64::MAX);
        assert_eq!(beyond.plus_days(1), beyond, "never earlier than before");
        assert_eq!(
            Timestamp::default().plus_days(30).minus(Duration::from_secs(86_400)).to_string(),
            "1970-01-30T00:00:00Z"
        );
    }

    #[test]
    fn a_clock_goes_where_it_is_set() {
        let clock = ManualClock::at(Timestamp::from_micros(5));
        assert_eq!(clock.now().as_micros(), 5);
        clock.set(Timestamp::from_micros(3));
        assert_eq!(clock.now().as_micros(), 3);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn whatever_may_be_claimed_survives_text_and_json(micros in EARLIEST..=LATEST) {
            let time = Timestamp::from_micros(micros);
            proptest::prop_assert_eq!(time.to_string().parse(), Ok(time));
            let text = serde_json::to_string(&time).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
            proptest::prop_assert_eq!(time.day(), &time.to_string()[..10]);
        }

        #[test]
        fn any_text_is_read_within_the_range_or_refused(text in "[0-9]{1,5}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?") {
            if let Ok(time) = text.parse::<Timestamp>() {
                proptest::prop_assert!((EARLIEST..=LATEST).contains(&time.as_micros()), "{}", text);
            }
        }
    }
}
