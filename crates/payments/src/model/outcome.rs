//! What a gateway says about an item, and what that does to it. Answers and callbacks come twice, late and in the wrong
//! order; the same end is reached whatever their order.

use std::time::Duration;

use events::payments::PayoutItemState as Item;

/// What a gateway says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It works on it.
    InProgress,
    /// It did not answer; what became of the payment is not known.
    Unknown,
    /// It has never seen the payment's key.
    NeverSeen,
    /// It has paid.
    Settled,
    /// It refused; no money moved.
    Failed {
        /// In its words.
        reason: String,
    },
    /// It had paid, and the money came back.
    Returned {
        /// In its words.
        reason: String,
    },
}

impl Outcome {
    /// In the gateway's words, cut to a length that fits an event.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Failed { reason } | Self::Returned { reason } => Some(reason.chars().take(200).collect()),
            Self::InProgress | Self::Unknown | Self::NeverSeen | Self::Settled => None,
        }
    }
}

/// The states that an item in `from` goes through on `outcome`; none when it is known already or nothing is decided
/// yet. `None`: it contradicts what was recorded, and a person must look.
pub(crate) fn steps(from: Item, outcome: &Outcome) -> Option<&'static [Item]> {
    let open = matches!(from, Item::Submitted | Item::Unknown);
    match outcome {
        // Nobody asked the gateway to pay these.
        _ if matches!(from, Item::Pending | Item::Cancelled) => None,
        Outcome::Settled if open => Some(&[Item::Settled]),
        Outcome::Settled => (from != Item::Failed).then_some(&[]),
        Outcome::Failed { .. } if open => Some(&[Item::Failed]),
        Outcome::Failed { .. } => (from == Item::Failed).then_some(&[]),
        // What came back had been paid, even when nobody has told yet.
        Outcome::Returned { .. } if open => Some(&[Item::Settled, Item::Returned]),
        Outcome::Returned { .. } if from == Item::Settled => Some(&[Item::Returned]),
        Outcome::Returned { .. } => (from == Item::Returned).then_some(&[]),
        Outcome::Unknown if from == Item::Submitted => Some(&[Item::Unknown]),
        Outcome::InProgress | Outcome::Unknown | Outcome::NeverSeen => Some(&[]),
    }
}

/// How long to wait before asking again after `attempts` answers without an outcome: at once the first time, then 5 s,
/// doubled each time, at most an hour.
pub(crate) fn delay(attempts: i64) -> Duration {
    let doublings = (attempts - 1).clamp(0, 16);
    if attempts <= 0 { Duration::ZERO } else { Duration::from_secs((5 << doublings).min(3_600)) }
}

#[cfg(test)]
mod tests {
    use super::super::PAYOUT_ITEM;
    use super::*;
    use proptest::prelude::*;

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::InProgress),
            Just(Outcome::Unknown),
            Just(Outcome::NeverSeen),
            Just(Outcome::Settled),
            Just(Outcome::Failed { reason: "no".to_owned() }),
            Just(Outcome::Returned { reason: "back".to_owned() }),
        ]
    }

    fn run(said: &[Outcome]) -> Vec<Item> {
        let mut states = vec![Item::Submitted];
        for outcome in said {
            let from = *states.last().unwrap();
            states.extend(steps(from, outcome).unwrap_or_default());
        }
        states
    }

    proptest! {
        #[test]
        fn every_step_is_a_legal_transition_and_money_leaves_at_most_once(said in prop::collection::vec(outcomes(), 0..12)) {
            let states = run(&said);
            for pair in states.windows(2) {
                prop_assert!(PAYOUT_ITEM.allows(pair[0], pair[1]), "{pair:?}");
            }
            prop_assert!(states.iter().filter(|state| **state == Item::Settled).count() <= 1);
        }

        #[test]
        fn settled_and_returned_end_alike_in_any_order_and_number(
            mut said in prop::collection::vec(prop_oneof![Just(Outcome::Settled), Just(Outcome::Unknown), Just(Outcome::InProgress)], 0..6),
            place in 0_usize..6,
        ) {
            said.insert(place.min(said.len()), Outcome::Returned { reason: "back".to_owned() });
            prop_assert_eq!(run(&said).pop(), Some(Item::Returned));
        }
    }

    #[test]
    fn contradictions_are_told_and_not_obeyed() {
        let failed = Outcome::Failed { reason: "no".to_owned() };
        assert_eq!(steps(Item::Settled, &failed), None);
        assert_eq!(steps(Item::Returned, &failed), None);
        assert_eq!(steps(Item::Failed, &Outcome::Settled), None);
        assert_eq!(steps(Item::Failed, &Outcome::Returned { reason: String::new() }), None);
        assert_eq!(steps(Item::Pending, &Outcome::Settled), None);
        assert_eq!(steps(Item::Cancelled, &Outcome::Settled), None);
        assert_eq!(steps(Item::Failed, &failed), Some(&[][..]));
    }

    #[test]
    fn the_delay_grows_to_an_hour() {
        let seconds: Vec<u64> = (0..13).map(|attempts| delay(attempts).as_secs()).collect();
        assert_eq!(seconds, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(delay(i64::MAX).as_secs(), 3_600);
    }
}
