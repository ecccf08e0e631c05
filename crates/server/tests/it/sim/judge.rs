//! Judging a pure world: the product's end against the reference model's, over the facts that the product took in.

use std::collections::BTreeMap;
use std::fmt::Debug;

use events::commissions::CommissionState as State;
use events::conversions::ConversionState;
use kernel::ConversionId;
use platform::Reader;

use super::plan::FactRef;
use super::reference::{self, CommissionState, Decision, Key, World};
use super::world::{Sim, Verdict};

/// What is compared of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    decision: String,
    campaign: Option<String>,
    refunded_minor: i64,
    commission: Option<Earned>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Earned {
    partner: String,
    currency: String,
    terms_version: i64,
    gross_minor: i64,
    kept_minor: i64,
    bonus: bool,
    hold_ends_at: i64,
    approved: bool,
}

/// How a world ended: by natural key, and by (partner, currency) what is pending and what is payable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) conversions: BTreeMap<Key, End>,
    pub(super) balances: BTreeMap<(String, String), (i64, i64)>,
}

/// The facts of the plan that the product recorded, with the instants at which it did.
fn recorded(sim: &Sim) -> World {
    let plan = &sim.plan.world;
    let mut world = World { touches: Vec::new(), conversions: Vec::new(), refunds: Vec::new(), ..plan.clone() };
    for (fact, receipt) in &sim.receipts {
        let recorded_at = receipt.recorded_at.as_micros();
        match sim.plan.facts[*fact].fact {
            FactRef::Touch(index) => world.touches.push(plan.touches[index].clone()),
            FactRef::Conversion(index) => {
                world.conversions.push(reference::Conversion { recorded_at, ..plan.conversions[index].clone() });
            }
            FactRef::Refund(index) => {
                world.refunds.push(reference::Refund { recorded_at, ..plan.refunds[index].clone() });
            }
        }
    }
    world
}

/// How the reference model says that the world must end.
pub(super) fn expected(sim: &Sim) -> Ends {
    let outcome = reference::evaluate(&recorded(sim));
    let conversions = outcome.conversions.into_iter().map(|(key, conversion)| {
        let decision = match &conversion.decision {
            Decision::Parked => "parked".to_owned(),
            Decision::Rejected(reason) => format!("rejected {reason}"),
            Decision::Unattributed => "unattributed".to_owned(),
            Decision::Attributed { partner, .. } => format!("attributed {partner}"),
        };
        // What a parked or rejected conversion belongs to is nobody's business.
        let is_decided = matches!(conversion.decision, Decision::Unattributed | Decision::Attributed { .. });
        let commission = conversion.commission.map(|commission| Earned {
            partner: commission.partner,
            currency: commission.currency,
            terms_version: commission.terms_version,
            gross_minor: commission.gross_minor,
            kept_minor: commission.kept_minor,
            bonus: commission.bonus_earned,
            hold_ends_at: commission.hold_ends_at,
            approved: commission.state == CommissionState::Approved,
        });
        let (campaign, refunded_minor) = (conversion.campaign.filter(|_| is_decided), conversion.refunded_minor);
        (key, End { decision, campaign, refunded_minor, commission })
    });
    let balances = outcome.balances.into_iter().map(|(account, b)| (account, (b.pending_minor, b.payable_minor)));
    Ends { conversions: conversions.collect(), balances: balances.filter(|(_, sums)| *sums != (0, 0)).collect() }
}

/// How the world ended in the product's own words.
pub(super) fn reached(sim: &Sim) -> Verdict<Ends> {
    let ends =
        sim.db.read(|reader| Ok(Ends { conversions: conversions(sim, reader)?, balances: balances(sim, reader)? }));
    ends.map_err(|fault| format!("invariant: the end cannot be read: {fault}"))
}

fn conversions(sim: &Sim, reader: &Reader<'_>) -> kernel::Result<BTreeMap<Key, End>> {
    let mut ends = BTreeMap::new();
    let conversions = sim.receipts.iter().filter_map(|(fact, receipt)| match sim.plan.facts[*fact].fact {
        FactRef::Conversion(index) => Some((index, receipt)),
        _ => None,
    });
    for (index, receipt) in conversions {
        let id: ConversionId = receipt.id.parse().expect("an id");
        let view = conversions::views::one(reader, id)?;
        let live = commissions::views::live_of(reader, &[id])?.remove(&id);
        let decision = match view.state {
            _ if view.parked.is_some() => "parked".to_owned(),
            ConversionState::Rejected => format!("rejected {}", view.reason.as_deref().unwrap_or_default()),
            ConversionState::Attributed => {
                format!("attributed {}", view.partner_id.map_or_else(String::new, |id| sim.names.partner(id)))
            }
            state => state.as_str().to_owned(),
        };
        let is_decided = matches!(view.state, ConversionState::Attributed | ConversionState::Unattributed);
        let campaign = view.campaign_id.filter(|_| is_decided && view.parked.is_none());
        let commission = live.map(|commission| Earned {
            partner: sim.names.partner(commission.partner_id),
            currency: commission.currency.to_string(),
            terms_version: i64::from(commission.terms_version),
            gross_minor: commission.gross_minor,
            kept_minor: commission.kept_minor,
            bonus: commission.bonus,
            hold_ends_at: commission.hold_ends_at.as_micros(),
            approved: commission.state == State::Approved,
        });
        let end = End {
            decision,
            campaign: campaign.map(|id| sim.names.campaign(id)),
            refunded_minor: view.refunded_minor,
            commission,
        };
        ends.insert(sim.plan.world.conversions[index].key.clone(), end);
    }
    Ok(ends)
}

fn balances(sim: &Sim, reader: &Reader<'_>) -> kernel::Result<BTreeMap<(String, String), (i64, i64)>> {
    let balances = ledger::balances(reader, platform::event_log::head(reader)?, None)?;
    let sums = balances.into_iter().map(|found| {
        let account = (sim.names.partner(found.partner_id), found.currency.to_string());
        (account, (found.balance.pending_minor, found.balance.payable_minor))
    });
    Ok(sums.filter(|(_, sums)| *sums != (0, 0)).collect())
}

/// The first differences, if there are any.
pub(super) fn compare(expected: &Ends, reached: &Ends, of: [&str; 2]) -> Verdict {
    let mut differences = differing(&expected.conversions, &reached.conversions, of);
    differences.extend(differing(&expected.balances, &reached.balances, of));
    if differences.is_empty() {
        return Ok(());
    }
    let shown = differences.iter().take(4).map(|difference| format!("\n  {difference}")).collect::<String>();
    Err(format!("mismatch in {} places{shown}", differences.len()))
}

fn differing<K: Ord + Debug, V: PartialEq + Debug>(
    expected: &BTreeMap<K, V>,
    reached: &BTreeMap<K, V>,
    [first, second]: [&str; 2],
) -> Vec<String> {
    let mut keys: Vec<&K> = expected.keys().chain(reached.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| expected.get(key) != reached.get(key))
        .map(|key| format!("{key:?}\n    {first}: {:?}\n    {second}: {:?}", expected.get(key), reached.get(key)))
        .collect()
}

/// Two worlds of the same facts; hold ends follow the instants of recording, which differ.
pub(super) fn compare_twins(one: &Sim, other: &Sim) -> Verdict {
    let mut ends = [reached(one)?, reached(other)?];
    for commission in
        ends.iter_mut().flat_map(|ends| ends.conversions.values_mut()).filter_map(|end| end.commission.as_mut())
    {
        commission.hold_ends_at = 0;
    }
    // A fact that only one of them refused at intake, because it knew more by then, has no effect in the other.
    let refused: Vec<Key> = [one, other].iter().flat_map(|sim| refused(sim)).collect();
    ends.iter_mut().for_each(|ends| ends.conversions.retain(|key, _| !refused.contains(key)));
    compare(&ends[0], &ends[1], ["one  ", "other"])
}

fn refused(sim: &Sim) -> Vec<Key> {
    let keys = sim.refused.iter().filter_map(|fact| match sim.plan.facts[*fact].fact {
        FactRef::Conversion(index) => Some(sim.plan.world.conversions[index].key.clone()),
        _ => None,
    });
    keys.collect()
}
