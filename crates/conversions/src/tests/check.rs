//! What `verify` finds when somebody changes the tables behind the product's back: each check must be able to fail.

use kernel::Fault;

use crate::check::check;
use crate::testing::{World, day, refund, sale, touch, usd, world};

/// Two sales of one customer, one of them refunded in part, decided.
fn decided() -> World {
    let mut world = world();
    world.play(vec![
        touch("1", "anna", 1, day(-4)).into(),
        sale("1", "anna", day(-2)).into(),
        sale("2", "anna", day(-1)).into(),
        sale("3", "bert", day(-1)).into(),
        refund("r1", "1", Some(usd(2_500))).into(),
    ]);
    world.assert_verified();
    world
}

/// The names of the checks that find something after `sql`, which is then undone.
fn found(world: &World, sql: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    let _ = world.db.write("test", platform::Lane::Back, "nobody", |tx| {
        assert!(tx.execute(sql, &[])? > 0, "{sql}");
        let checks = check(tx)?;
        names.extend(checks.iter().filter(|check| !check.differences.is_empty()).map(|check| check.name));
        Err::<(), _>(Fault::internal("undone"))
    });
    names
}

#[test]
fn every_planted_difference_is_found() {
    let world = decided();
    let facts = "every recorded fact has its event";
    let decisions = "every attribution follows from the facts up to its position";
    let firsts = "no later sale counts as a customer's first";
    let lists = "customers' lists of conversions are what the rows say";
    let refunds = "the refunds of a conversion are the sum of its parts";
    for (sql, expected) in [
        ("UPDATE conversion SET position = position + 1 WHERE external_id = '3'", facts),
        ("UPDATE touch SET position = position + 1", facts),
        ("UPDATE refund SET position = position + 1", facts),
        ("UPDATE conversion SET state = 'unattributed' WHERE external_id = '1'", decisions),
        ("UPDATE touch SET occurred_at = occurred_at + 864000000000", decisions),
        ("UPDATE conversion SET first_purchase = 1 WHERE external_id = '2'", firsts),
        ("UPDATE conversion SET first_purchase = 0 WHERE external_id = '1'", firsts),
        ("UPDATE customer_conversion SET occurred_at = 1 WHERE external_id = '2'", lists),
        ("UPDATE customer_conversion SET first_purchase = 1 WHERE external_id = '2'", lists),
        ("DELETE FROM customer_conversion WHERE external_id = '3'", lists),
        (
            "INSERT INTO customer_conversion SELECT customer_key, {nobody}, campaign_id, \
             occurred_at, source, external_id, first_purchase FROM customer_conversion WHERE external_id = '3'",
            lists,
        ),
        ("UPDATE conversion SET refund_sum_minor = 0 WHERE external_id = '1'", refunds),
        ("DELETE FROM refund", refunds),
    ] {
        let sql = &sql.replace("{nobody}", &world.db.bytes_literal("00000000000000000000000000000000"));
        assert!(found(&world, sql).contains(&expected), "{sql}: {:?}", found(&world, sql));
    }
    world.assert_verified();
}
