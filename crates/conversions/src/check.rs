//! What `alpes verify` asks of this context: every fact has its event, every decision follows from the facts up to its
//! position, nobody counts as first who came later, every sum of refunds is the sum of its parts.

use std::collections::{BTreeMap, BTreeSet};

use events::conversions::{ConversionState, Recorded, RefundKind, RefundRecorded, Rule, TouchRecorded};
use kernel::{Amount, ConversionId, Duration, Event, Fault, Money, RefundId, Result, TouchId};
use platform::{Check, Reader, Row, Value, event_log};

use crate::load::{Wanted, conversions_after, conversions_of, load};
use crate::model::book::{Book, UnknownReference};
use crate::model::conversion::{Conversion, Customer, Listed, Moment};
use crate::model::refund::{RefundState, RefundSum};

const PAGE: i64 = 512;
/// The first differences say what is wrong; the rest is counted nowhere.
const MOST_DIFFERENCES: usize = 20;

/// Recomputes and compares, page by page.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let mut facts = empty("every recorded fact has its event");
    let mut decisions = empty("every attribution follows from the facts up to its position");
    let mut firsts = empty("no later sale counts as a customer's first");
    let mut lists = empty("customers' lists of conversions are what the rows say");
    let mut refunds = empty("the refunds of a conversion are the sum of its parts");
    let mut after = ConversionId::from_bytes([0; 16]);
    loop {
        let page = conversions_after(reader, after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        let recorded: Vec<(i64, String)> = page.iter().map(|c| (c.position, c.id.to_string())).collect();
        check_events(reader, Recorded::TYPE, &recorded, &mut facts)?;
        let wanted = Wanted {
            conversions: page.iter().map(|conversion| conversion.id).collect(),
            customers: page.iter().filter_map(|conversion| conversion.customer).collect(),
            ..Wanted::default()
        };
        check_lists(reader, &page, &wanted.customers, &mut lists)?;
        let book = load(reader, &wanted, UnknownReference::Park)?;
        for conversion in &page {
            check_decision(&book, conversion, &mut decisions);
            check_first(&book, conversion, &mut firsts);
        }
        check_refunds(reader, &page, &mut refunds)?;
    }
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM customer_conversion";
    let in_lists = reader.query_one(sql, &[], |row| row.int(0))?.unwrap_or(0);
    let expected = lists.checked;
    if expected != in_lists {
        differ(&mut lists, format!("the lists have {in_lists} conversions, of {expected} that belong there"));
    }
    let sql = "SELECT id, position FROM touch WHERE id > ? ORDER BY id LIMIT ?";
    check_facts(reader, sql, TouchRecorded::TYPE, |id| TouchId::from_bytes(id).to_string(), &mut facts)?;
    let sql = "SELECT id, position FROM refund WHERE id > ? ORDER BY id LIMIT ?";
    check_facts(reader, sql, RefundRecorded::TYPE, |id| RefundId::from_bytes(id).to_string(), &mut facts)?;
    Ok(vec![facts, decisions, firsts, lists, refunds])
}

const fn empty(name: &'static str) -> Check {
    Check { name, checked: 0, differences: Vec::new() }
}

fn differ(check: &mut Check, difference: String) {
    if check.differences.len() < MOST_DIFFERENCES {
        check.differences.push(difference);
    }
}

fn check_facts(
    reader: &Reader<'_>,
    sql: &str,
    event_type: &str,
    text: fn([u8; 16]) -> String,
    facts: &mut Check,
) -> Result<()> {
    let mut after = [0; 16];
    loop {
        let page =
            reader.query(sql, &[(&after).into(), PAGE.into()], |row: &Row<'_>| Ok((row.bytes16(0)?, row.int(1)?)))?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.0;
        let recorded: Vec<(i64, String)> = page.iter().map(|(id, position)| (*position, text(*id))).collect();
        check_events(reader, event_type, &recorded, facts)?;
    }
}

fn check_events(reader: &Reader<'_>, event_type: &str, recorded: &[(i64, String)], facts: &mut Check) -> Result<()> {
    let positions: Vec<i64> = recorded.iter().map(|(position, _)| *position).collect();
    let events = event_log::at(reader, &positions)?;
    let told: BTreeSet<(i64, &str)> = events
        .iter()
        .filter(|event| event.event_type == event_type)
        .map(|event| (event.position, event.subject.as_str()))
        .collect();
    for (position, id) in recorded {
        facts.checked += 1;
        if !told.contains(&(*position, id.as_str())) {
            differ(facts, format!("{id}: no {event_type} at position {position}"));
        }
    }
    Ok(())
}

fn check_decision(book: &Book, conversion: &Conversion, decisions: &mut Check) {
    let standing = &conversion.standing;
    let (Some(position), Some(known_at)) = (standing.decided_from, standing.decided_at) else { return };
    // A person's decision follows from no facts. What occurred at or after its decision would be judged by pauses and
    // suspensions of which the decision could not know; a campaign's dates may have been moved since.
    let moved = standing.reason.as_deref() == Some("outside_campaign");
    if standing.rule == Some(Rule::Operator) || conversion.occurred_at >= known_at || moved {
        return;
    }
    decisions.checked += 1;
    let was = (standing.state, standing.campaign_id, standing.partner_id);
    let again = |known_at| {
        let outcome = book.evaluate(conversion, Moment { position, time: known_at, known_at });
        outcome.map(|outcome| (outcome.state, outcome.campaign_id, outcome.partner_id)).map_err(|wait| wait.key)
    };
    // What became known at the decision's own instant may have come before it or after it.
    let before = || again(known_at.minus(Duration::from_micros(1)));
    match again(known_at) {
        Ok(is) if is == was => {}
        _ if before() == Ok(was) => {}
        Ok(is) => differ(decisions, format!("{}: decided {was:?}, recomputed {is:?}", conversion.id)),
        Err(key) => differ(decisions, format!("{}: decided {was:?}, but must wait for {key}", conversion.id)),
    }
}

fn check_first(book: &Book, conversion: &Conversion, firsts: &mut Check) {
    let standing = &conversion.standing;
    let (Some(purchases), ConversionState::Attributed) = (conversion.purchases(), standing.state) else { return };
    firsts.checked += 1;
    let earlier: Vec<&Conversion> = book
        .of_customer(purchases.1)
        .filter(|other| other.purchases() == Some(purchases) && other.order() < conversion.order())
        .collect();
    // One that was decided later may have come too late to take the first purchase away.
    let known_then = earlier.iter().find(|other| other.standing.decision_position <= standing.decision_position);
    if let Some(other) = known_then.filter(|_| standing.first_purchase) {
        differ(firsts, format!("{}: says it is the first purchase, but {} was before it", conversion.id, other.id));
    }
    // One that left the campaign later may have left too late to hand it on.
    let mut others = book.of_customer(purchases.1);
    let nobody_left = others.all(|other| {
        other.purchases() == Some(purchases) || other.standing.decision_position <= standing.decision_position
    });
    if !standing.first_purchase && earlier.is_empty() && nobody_left {
        differ(firsts, format!("{}: is the first purchase, but its decision does not say so", conversion.id));
    }
}

fn check_lists(
    reader: &Reader<'_>,
    page: &[Conversion],
    customers: &BTreeSet<Customer>,
    lists: &mut Check,
) -> Result<()> {
    let listed = conversions_of(reader, customers)?;
    let listed: BTreeMap<ConversionId, Listed> = listed.into_iter().map(|one| (one.conversion_id, one)).collect();
    for conversion in page {
        let expected = conversion.listed();
        lists.checked += i64::from(expected.is_some());
        if expected.as_ref() != listed.get(&conversion.id) {
            differ(lists, format!("{}: its customer's list does not show it as it is", conversion.id));
        }
    }
    Ok(())
}

fn check_refunds(reader: &Reader<'_>, page: &[Conversion], refunds: &mut Check) -> Result<()> {
    let keys: Vec<[Value<'_>; 2]> =
        page.iter().map(|c| [c.source.as_str().into(), c.external_id.as_str().into()]).collect();
    let sql = "SELECT conversion_source, conversion_external_id, kind, amount_minor, currency, state FROM refund \
        WHERE (conversion_source, conversion_external_id) IN (?*) ORDER BY position";
    let parts = reader.query_in(sql, &[], &keys, |row| {
        let currency = row.opt_text(4)?.map(str::parse).transpose().map_err(Fault::internal)?;
        let amount = row.opt_int(3)?.zip(currency).map(|(minor, currency)| Amount::new(Money::new(minor, currency)));
        let key = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        Ok((key, row.name::<RefundKind>(2)?, amount.transpose()?, row.name::<RefundState>(5)?))
    })?;
    let mut by_sale: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
    for (key, kind, amount, state) in parts {
        by_sale.entry(key).or_default().push((kind, amount, state));
    }
    for conversion in page {
        refunds.checked += 1;
        let mut sum = RefundSum::default();
        let key = (conversion.source.clone(), conversion.external_id.clone());
        for (kind, amount, state) in by_sale.remove(&key).unwrap_or_default() {
            if state == RefundState::Applied && sum.add(conversion.amount, kind, amount).is_err() {
                differ(refunds, format!("{}: a refund is applied that cannot be", conversion.id));
            }
        }
        if sum != conversion.standing.refunds {
            let (was, is) = (conversion.standing.refunds, sum);
            differ(refunds, format!("{}: {was:?} is kept, the parts sum to {is:?}", conversion.id));
        }
    }
    Ok(())
}
