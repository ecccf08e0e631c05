use proptest::prelude::*;

use super::*;

/// Rounds half up by whole steps: the quotient, and one more when twice the rest reaches the denominator.
fn half_up(amount: i64, numerator: i64, denominator: i64) -> i128 {
    let product = i128::from(amount) * i128::from(numerator);
    let (quotient, rest) = (product / i128::from(denominator), product % i128::from(denominator));
    quotient + i128::from(rest >= i128::from(denominator) - rest)
}

fn any_amount() -> impl Strategy<Value = i64> {
    prop_oneof![0..1_000_i64, 0..=i64::MAX, Just(i64::MAX), Just(i64::MAX - 1), Just(0), Just(1)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ratio_is_exact_or_an_overflow(amount in any_amount(), numerator in any_amount(), denominator in any_amount()) {
        let found = ratio_half_up(amount, numerator, denominator);
        if denominator == 0 {
            prop_assert_eq!(found.unwrap_err().code(), "amount_overflow");
        } else {
            match i64::try_from(half_up(amount, numerator, denominator)) {
                Ok(expected) => prop_assert_eq!(found.unwrap(), expected),
                Err(_) => prop_assert_eq!(found.unwrap_err().code(), "amount_overflow"),
            }
        }
    }

    #[test]
    fn a_ratio_of_something_negative_is_refused(amount in any_amount(), other in i64::MIN..0) {
        prop_assert!(ratio_half_up(other, amount, 1).is_err());
        prop_assert!(ratio_half_up(amount, other, 1).is_err());
        prop_assert!(ratio_half_up(amount, 1, other).is_err());
    }

    #[test]
    fn a_share_is_never_above_the_whole_and_grows_with_it(amount in any_amount(), more in 0..1_000_i64, points in 0..=10_000_u32) {
        let share = BasisPoints::new(points).unwrap();
        let part = share.of(amount).unwrap();
        prop_assert!((0..=amount).contains(&part));
        prop_assert!(share.of(amount.saturating_add(more)).unwrap() >= part);
        prop_assert_eq!(BasisPoints::new(10_000).unwrap().of(amount).unwrap(), amount);
    }

    /// Rules section 6: what is kept after refunds in any parts depends on their sum alone, so reversals sum exactly.
    #[test]
    fn refunds_in_any_parts_take_back_exactly_what_one_would(commission in 0..10_000_000_i64, parts in prop::collection::vec(0..100_000_i64, 1..20), extra in 0..100_000_i64) {
        let refunded: i64 = parts.iter().sum();
        let amount = refunded + extra;
        prop_assume!(amount > 0);
        let kept = |refunded: i64| ratio_half_up(commission, amount - refunded, amount).unwrap();
        let (mut so_far, mut reversed) = (0, 0);
        for part in parts {
            reversed += kept(so_far) - kept(so_far + part);
            so_far += part;
            prop_assert!(kept(so_far) >= 0 && kept(so_far) <= commission);
        }
        prop_assert_eq!(commission - reversed, kept(refunded));
        prop_assert_eq!((kept(0), kept(amount)), (commission, 0));
    }

    #[test]
    fn a_split_sums_exactly_and_is_fair(total in any_amount(), weights in prop::collection::vec(prop_oneof![0..10_u32, any::<u32>()], 0..12)) {
        let sum: i128 = weights.iter().map(|&weight| i128::from(weight)).sum();
        let parts = split(total, &weights);
        if sum == 0 {
            prop_assert_eq!(parts, None);
        } else {
            let parts = parts.unwrap();
            prop_assert_eq!(parts.iter().map(|&part| i128::from(part)).sum::<i128>(), i128::from(total));
            let mut remainders = Vec::new();
            for (&part, &weight) in parts.iter().zip(&weights) {
                let (exact, rest) = (i128::from(total) * i128::from(weight) / sum, i128::from(total) * i128::from(weight) % sum);
                let up = i128::from(part) - exact;
                prop_assert!(up == 0 || up == 1, "at most one unit above the exact share rounded down");
                prop_assert!(weight > 0 || part == 0);
                remainders.push((up, rest));
            }
            let least_up = remainders.iter().filter(|r| r.0 == 1).map(|r| r.1).min();
            let most_down = remainders.iter().filter(|r| r.0 == 0).map(|r| r.1).max();
            prop_assert!(least_up.zip(most_down).is_none_or(|(up, down)| up >= down), "largest remainders first");
        }
    }

    #[test]
    fn sums_are_checked(a in any::<i64>(), b in any::<i64>()) {
        let (one, other) = (Money::new(a, Currency::USD), Money::new(b, Currency::USD));
        match a.checked_add(b) {
            Some(sum) => prop_assert_eq!(one.checked_add(other).unwrap(), Money::new(sum, Currency::USD)),
            None => prop_assert_eq!(one.checked_add(other).unwrap_err().code(), "amount_overflow"),
        }
        let euros = Money::new(b, "EUR".parse().unwrap());
        prop_assert_eq!(one.checked_add(euros).unwrap_err().code(), "currency_mismatch");
    }

    #[test]
    fn money_survives_json(amount in any::<i64>()) {
        let money = Money::new(amount, Currency::USD);
        let text = serde_json::to_string(&money).unwrap();
        prop_assert_eq!(&text, &format!("{{\"amount_minor\":{amount},\"currency\":\"USD\"}}"));
        prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), money);
        prop_assert_eq!(serde_json::from_str::<Amount>(&text).is_ok(), amount >= 0);
    }
}

#[test]
fn halves_go_up() {
    for (amount, expected) in [(0, 0), (49, 0), (50, 1), (149, 1), (150, 2)] {
        assert_eq!(ratio_half_up(amount, 1, 100).unwrap(), expected, "{amount}");
    }
    assert_eq!(ratio_half_up(i64::MAX, i64::MAX, i64::MAX).unwrap(), i64::MAX);
    assert_eq!(ratio_half_up(i64::MAX, 2, 1).unwrap_err().code(), "amount_overflow");
    // 8.00 % of 29.33 USD is 2.3464, of 29.31 USD 2.3448.
    assert_eq!(BasisPoints::new(800).unwrap().of(2_933).unwrap(), 235);
    assert_eq!(BasisPoints::new(800).unwrap().of(2_931).unwrap(), 234);
    assert_eq!((BasisPoints::new(10_000).map(BasisPoints::get), BasisPoints::new(10_001)), (Some(10_000), None));
    assert!(
        serde_json::from_str::<BasisPoints>("10001").is_err() && serde_json::from_str::<BasisPoints>("-1").is_err()
    );
}

#[test]
fn splits_by_largest_remainder_and_ties_to_the_earlier() {
    assert_eq!(split(100, &[1, 1, 1]), Some(vec![34, 33, 33]));
    assert_eq!(split(2, &[1, 1, 1]), Some(vec![1, 1, 0]));
    assert_eq!(split(10, &[1, 0, 2]), Some(vec![3, 0, 7]));
    assert_eq!(split(0, &[1, 2]), Some(vec![0, 0]));
    assert_eq!((split(-1, &[1]), split(5, &[]), split(5, &[0, 0])), (None, None, None));
}

#[test]
fn currencies_have_the_decimals_of_iso_4217() {
    let decimals = |code: &str| code.parse::<Currency>().map(Currency::decimals);
    for (code, expected) in [
        ("USD", 2),
        ("EUR", 2),
        ("COP", 2),
        ("MXN", 2),
        ("HUF", 2),
        ("MGA", 2),
        ("MRU", 2),
        ("XCD", 2),
        ("XCG", 2),
        ("ZWG", 2),
        ("JPY", 0),
        ("KRW", 0),
        ("CLP", 0),
        ("ISK", 0),
        ("UGX", 0),
        ("XOF", 0),
        ("VND", 0),
        ("PYG", 0),
        ("BHD", 3),
        ("IQD", 3),
        ("JOD", 3),
        ("KWD", 3),
        ("LYD", 3),
        ("OMR", 3),
        ("TND", 3),
    ] {
        assert_eq!(decimals(code), Ok(expected), "{code}");
    }
    for bad in ["", "US", "USDX", "usd", "Usd", "U$D", "XXX", "ZZZ", " USD", "USD ", "ÜSD", "DEM", "HRK", "BTC"] {
        assert!(bad.parse::<Currency>().is_err(), "{bad}");
    }
    let mut all: Vec<&str> =
        [NO_DECIMALS, TWO_DECIMALS, THREE_DECIMALS].iter().flat_map(|l| l.split_ascii_whitespace()).collect();
    assert!(all.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "each code once");
}

#[test]
fn money_for_people() {
    let shown = |amount, code: &str| Money::new(amount, code.parse().unwrap()).to_string();
    assert_eq!(shown(1_234, "USD"), "12.34 USD");
    assert_eq!(shown(-5, "USD"), "-0.05 USD");
    assert_eq!(shown(1_234, "JPY"), "1234 JPY");
    assert_eq!(shown(-1_001, "KWD"), "-1.001 KWD");
    assert_eq!(shown(i64::MIN, "USD"), "-92233720368547758.08 USD");
}

#[test]
fn bad_amounts_are_refused() {
    let body = |amount: &str| format!("{{\"amount_minor\":{amount},\"currency\":\"USD\"}}");
    for bad in ["-1", "1.5", "1.0", "NaN", "1e400", "1e3", "9223372036854775808", "\"1\"", "null", "true"] {
        assert!(serde_json::from_str::<Amount>(&body(bad)).is_err(), "{bad}");
    }
    assert_eq!(serde_json::from_str::<Amount>(&body("9223372036854775807")).unwrap().minor(), i64::MAX);
    let unknown = "{\"amount_minor\":1,\"currency\":\"USD\",\"rate\":2}";
    let twice = "{\"amount_minor\":1,\"amount_minor\":2,\"currency\":\"USD\"}";
    assert!(serde_json::from_str::<Amount>(unknown).is_err() && serde_json::from_str::<Amount>(twice).is_err());
    assert_eq!(Amount::new(Money::new(-1, Currency::USD)).unwrap_err().code(), "amount_negative");
}
