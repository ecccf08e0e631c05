//! A log-linear histogram of microseconds: exact below 128, at most 1.6 % too high above; fixed size, nothing to
//! allocate per sample.

const LINEAR: usize = 128;
const PER_OCTAVE: usize = 64;
/// Up to 2^40 µs, twelve days.
const OCTAVES: usize = 33;

/// Counts of samples in microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    maximum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; LINEAR + OCTAVES * PER_OCTAVE], total: 0, maximum: 0 }
    }
}

impl Histogram {
    /// Adds one sample.
    pub(crate) fn record(&mut self, microseconds: u64) {
        let index = bucket(microseconds).min(self.counts.len() - 1);
        self.counts[index] += 1;
        self.total += 1;
        self.maximum = self.maximum.max(microseconds);
    }

    /// The value that `permille` of 1,000 samples do not exceed (999 = p99.9); zero without samples.
    pub(crate) fn quantile(&self, permille: u64) -> u64 {
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(index).min(self.maximum);
            }
        }
        self.maximum
    }

    /// Number of samples.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// Largest sample, exact.
    pub(crate) fn maximum(&self) -> u64 {
        self.maximum
    }

    /// Upper bound and count of each bucket that has samples: the raw data to keep.
    pub(crate) fn buckets(&self) -> Vec<(u64, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper_bound(index), *count)).collect()
    }
}

fn bucket(value: u64) -> usize {
    let octave = 63 - (value | 1).leading_zeros() as usize;
    if octave < 7 {
        return usize::try_from(value).expect("below 128");
    }
    let shift = octave - 6;
    let top = usize::try_from(value >> shift).expect("seven bits");
    LINEAR + (shift - 1) * PER_OCTAVE + (top - PER_OCTAVE)
}

fn upper_bound(index: usize) -> u64 {
    if index < LINEAR {
        return index as u64;
    }
    let shift = (index - LINEAR) / PER_OCTAVE + 1;
    let top = (index - LINEAR) % PER_OCTAVE + PER_OCTAVE;
    (((top as u64) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_each_other() {
        let mut last = 0;
        for value in (0..5_000).chain((0..30).map(|power| 1 << power)).chain([65_535, 1 << 39, (1 << 40) - 1]) {
            let bound = upper_bound(bucket(value));
            assert!(bound >= value && bound - value <= value / 60, "{value} is in the bucket up to {bound}");
        }
        for index in 1..LINEAR + OCTAVES * PER_OCTAVE {
            let bound = upper_bound(index);
            assert!(bound > last, "bucket {index}");
            assert_eq!(bucket(bound), index);
            assert_eq!(bucket(last + 1), index);
            last = bound;
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let mut histogram = Histogram::default();
        for value in (1..=100).rev() {
            histogram.record(value);
        }
        assert_eq!((histogram.quantile(500), histogram.quantile(990), histogram.quantile(1_000)), (50, 99, 100));
        assert_eq!((histogram.count(), histogram.maximum()), (100, 100));
        assert_eq!(Histogram::default().quantile(990), 0);
    }

    #[test]
    fn a_sample_beyond_the_range_is_kept_as_the_maximum() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.maximum(), u64::MAX);
        assert_eq!(histogram.count(), 1);
    }
}
