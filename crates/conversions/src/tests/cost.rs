//! What intake and reaction cost, printed: `cargo test --release -p conversions cost -- --nocapture`. It checks that
//! everything was attributed; how long it took depends on the machine and fails nothing.

use std::time::Instant;

use platform::Lane;

use crate::testing::{day, key, sale, touch, world};
use crate::{Fact, NewConversion, Prepared, record};

const CONVERSIONS: usize = 8_192;
const BATCH: usize = 512;

/// The mix of a shop: three purchases per customer, a touch for every other customer, a code for the rest.
fn facts() -> Vec<Fact> {
    let of = |n: usize| -> Vec<Fact> {
        let customer = format!("customer-{}", n / 3);
        let by_touch = (n / 3).is_multiple_of(2);
        let at = day(-1).plus(kernel::Duration::from_micros(n as u64));
        let code = (!by_touch).then(|| key("ONE"));
        let bought = NewConversion { code, ..sale(&format!("order-{n}"), &customer, at) };
        let met = (by_touch && n.is_multiple_of(3)).then(|| touch(&format!("touch-{n}"), &customer, 2, day(-2)).into());
        met.into_iter().chain(std::iter::once(bought.into())).collect()
    };
    (0..CONVERSIONS).flat_map(of).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures, and decides nothing by it")]
fn microseconds_per_conversion() {
    let mut world = world();
    world.run();
    let per_conversion = |start: Instant| start.elapsed().as_micros() / (CONVERSIONS as u128 / 10);
    let start = Instant::now();
    let prepared: Vec<Prepared> = facts().into_iter().map(|fact| world.prepare(fact).unwrap()).collect();
    let prepare = per_conversion(start);
    let start = Instant::now();
    for batch in prepared.chunks(BATCH) {
        let correlation_ids = vec![None; batch.len()];
        let answers = world.db.write("intake", Lane::Front, "shop", |tx| record(tx, batch, &correlation_ids)).unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    let recorded = per_conversion(start);
    let start = Instant::now();
    world.run();
    let reacted = per_conversion(start);
    println!("tenths of a µs per conversion: prepare {prepare}, record {recorded}, reaction {reacted}");
    assert_eq!(world.told::<events::conversions::Attributed>().len(), CONVERSIONS);
}
