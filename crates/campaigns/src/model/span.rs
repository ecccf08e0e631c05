//! Spans of enrolments: half-open, without limit where an end is absent.

use kernel::Timestamp;

/// From (none: from the campaign's start) up to, but not including, to (none: without end).
pub(crate) type Span = (Option<Timestamp>, Option<Timestamp>);

/// Whether the span holds no instant.
pub(crate) fn is_empty((from, to): Span) -> bool {
    from.zip(to).is_some_and(|(from, to)| to <= from)
}

/// Whether the spans share an instant.
pub(crate) fn overlap(a: Span, b: Span) -> bool {
    let reaches = |(from, _): Span, (_, to): Span| from.zip(to).is_none_or(|(from, to)| from < to);
    !is_empty(a) && !is_empty(b) && reaches(a, b) && reaches(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans() -> Vec<Span> {
        let ends = [None, Some(1), Some(2), Some(3), Some(4)];
        let at = |second: Option<i64>| second.map(Timestamp::from_micros);
        ends.iter().flat_map(|&from| ends.iter().map(move |&to| (at(from), at(to)))).collect()
    }

    /// Against counting the instants that both hold.
    #[test]
    fn overlap_is_a_shared_instant() {
        let holds = |(from, to): Span, instant: i64| {
            let instant = Timestamp::from_micros(instant);
            from.is_none_or(|from| from <= instant) && to.is_none_or(|to| instant < to)
        };
        for a in spans() {
            assert_eq!(is_empty(a), !(0..6).any(|instant| holds(a, instant)), "{a:?}");
            for b in spans() {
                let shared = (0..6).any(|instant| holds(a, instant) && holds(b, instant));
                assert_eq!(overlap(a, b), shared, "{a:?} {b:?}");
            }
        }
    }
}
