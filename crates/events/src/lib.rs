//! The published language: what one context tells the others, one file per context, and the reference data that contexts
//! publish. It only grows: every event version has a golden sample under `samples/` that must decode for ever. It must
//! not know databases, and it carries no personal data: names, e-mails and bank data stay in their owner's row.

pub mod campaigns;
pub mod commissions;
pub mod conversions;
pub mod partners;
pub mod payments;

/// Defines an event type: its name, its aggregate, the field that names the aggregate, its sample.
macro_rules! event {
    ($name:ident, $event_type:literal, $aggregate:literal, $subject:ident, $meaning:literal, $sample:expr) => {
        impl kernel::Event for $name {
            const TYPE: &'static str = $event_type;
            const AGGREGATE: &'static str = $aggregate;
            const MEANING: &'static str = $meaning;
            fn subject(&self) -> String {
                self.$subject.to_string()
            }
            fn sample() -> Self {
                $sample
            }
        }
    };
}
pub(crate) use event;

/// The catalogue of every event, in the order of contexts.
pub fn catalogue() -> Vec<kernel::Descriptor> {
    [
        partners::catalogue(),
        campaigns::catalogue(),
        conversions::catalogue(),
        commissions::catalogue(),
        payments::catalogue(),
    ]
    .concat()
}

#[cfg(test)]
pub(crate) fn sample_path(event_type: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(format!("{event_type}.json"))
}

/// Fixed values for samples.
pub(crate) mod fixed {
    use kernel::{Id, Timestamp};

    /// An id whose sixteen bytes are `n`.
    pub(crate) const fn id<K>(n: u8) -> Id<K> {
        Id::from_bytes([n; 16])
    }

    /// 2026-01-31T12:00:00Z and `seconds` more.
    pub(crate) const fn time(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_769_860_800 + seconds) * 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stored sample never changes; a new event type gets its sample with `ALPES_BLESS=1`.
    #[test]
    fn every_sample_still_decodes_and_is_complete() {
        let catalogue = catalogue();
        for descriptor in &catalogue {
            let path = sample_path(descriptor.event_type);
            if !path.exists() && std::env::var_os("ALPES_BLESS").is_some() {
                std::fs::write(&path, (descriptor.sample)() + "\n").unwrap();
            }
            let stored = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}; run with ALPES_BLESS=1 to add it", path.display()));
            let decoded = (descriptor.round_trip)(&stored).unwrap_or_else(|e| panic!("{}: {e}", descriptor.event_type));
            assert_eq!(decoded, stored.trim_end(), "{} changed its shape: add a version", descriptor.event_type);
        }
        let files = std::fs::read_dir(sample_path("x").parent().unwrap()).unwrap().count();
        assert_eq!(files, catalogue.len(), "a sample without an event: events are retired, never removed");
    }

    #[test]
    fn names_follow_the_pattern_and_are_unique() {
        let catalogue = catalogue();
        let names: std::collections::BTreeSet<&str> = catalogue.iter().map(|d| d.event_type).collect();
        assert_eq!(names.len(), catalogue.len());
        for name in names {
            let parts: Vec<&str> = name.split('.').collect();
            assert!(
                matches!(parts[..], [_, _, version] if version.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok())),
                "{name}"
            );
        }
    }
}
