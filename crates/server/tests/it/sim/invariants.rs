//! What holds in every world: at any time, and when it has come to rest. The product's own `verify` is asked, and what
//! matters most is checked here again from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use events::commissions as told;
use events::commissions::CommissionState as State;
use events::conversions::{Recorded, RefundRecorded, TouchRecorded};
use kernel::{ConversionId, Currency, Event, EventRecord, Fault, PartnerId};
use platform::{Reader, event_log, parking, seal};

use super::plan::{FactRef, Mode};
use super::reference::{self, Decision, PartnerState};
use super::reference_money::{RefundOutcome, refund_outcome, sale_key};
use super::world::{Sim, Verdict};

fn broken(what: impl std::fmt::Display) -> String {
    format!("invariant: {what}")
}

fn unreadable(fault: Fault) -> String {
    broken(fault)
}

/// Whatever the consumers have not seen yet: positions without gaps, the seal, the books, the bank.
pub(super) fn at_any_time(sim: &Sim) -> Verdict {
    let (gap, books) =
        sim.db.read(|reader| Ok((seal::verify(reader)?.0, ledger::check(reader)?.1))).map_err(unreadable)?;
    if let Some(difference) = gap.into_iter().chain(books).next() {
        return Err(broken(difference));
    }
    sim.bank.broken().first().map_or(Ok(()), |seen| Err(broken(format_args!("the bank: {seen}"))))
}

/// At the end, when nothing is left to do.
pub(super) fn at_rest(sim: &mut Sim) -> Verdict {
    at_any_time(sim)?;
    sim.db.read(|reader| Ok(verified(reader))).map_err(unreadable)??;
    let log = sim.db.read(|reader| event_log::range(reader, 0, i64::MAX, &[], usize::MAX)).map_err(unreadable)?;
    sim.tally.events = log.len() as u64;
    sim.tally.payments = sim.bank.payments();
    acknowledged(sim, &log)?;
    let commissions = Commissions::of(&log)?;
    sim.db.read(|reader| Ok(commissions.agree_with_the_books(reader))).map_err(unreadable)??;
    paid_what_the_bank_paid(sim)?;
    nothing_waits_without_need(sim)?;
    rebuilds_alike(sim)?;
    rests(sim)
}

fn verified(reader: &Reader<'_>) -> Verdict {
    for check in server::verify::checks(reader).map_err(unreadable)? {
        if !check.differences.is_empty() {
            let shown =
                check.differences.iter().take(3).map(|difference| format!("\n  {difference}")).collect::<String>();
            return Err(broken(format_args!("verify, {}:{shown}", check.name)));
        }
    }
    match platform::dead_letters::list(reader, None, 1).map_err(unreadable)?.first() {
        Some(letter) => Err(broken(format_args!("a dead letter of {}: {}", letter.consumer, letter.reason))),
        None => Ok(()),
    }
}

/// Nothing that was acknowledged is lost, and nothing is there that was not delivered.
fn acknowledged(sim: &Sim, log: &[EventRecord]) -> Verdict {
    let types = [Recorded::TYPE, RefundRecorded::TYPE, TouchRecorded::TYPE];
    let facts = log.iter().filter(|event| types.contains(&event.event_type.as_str()));
    let mut there: BTreeMap<i64, &str> = facts.map(|event| (event.position, event.subject.as_str())).collect();
    for receipt in sim.receipts.values() {
        if there.remove(&receipt.position) != Some(&receipt.id) {
            return Err(broken(format_args!("the acknowledged {receipt:?} is not in the log")));
        }
    }
    match there.first_key_value() {
        Some((position, id)) => Err(broken(format_args!("{id} at {position} is a fact that nobody acknowledged"))),
        None => Ok(()),
    }
}

/// A commission as its own events tell it.
struct Commission {
    conversion: ConversionId,
    partner: PartnerId,
    currency: Currency,
    state: State,
    kept_minor: i64,
}

struct Commissions(BTreeMap<String, Commission>);

impl Commissions {
    /// Folds the log; no end state is left, and what is paid was approved.
    fn of(log: &[EventRecord]) -> Verdict<Self> {
        let mut all: BTreeMap<String, Commission> = BTreeMap::new();
        for event in log.iter().filter(|event| event.aggregate == "commission") {
            if event.is::<told::Accrued>() {
                let accrued: told::Accrued = event.decode().map_err(unreadable)?;
                let commission = Commission {
                    conversion: accrued.conversion_id,
                    partner: accrued.partner_id,
                    currency: accrued.currency,
                    state: State::Pending,
                    kept_minor: accrued.gross_minor,
                };
                if all.insert(event.subject.clone(), commission).is_some() {
                    return Err(broken(format_args!("{} was accrued twice", event.subject)));
                }
            } else if let Some(commission) = all.get_mut(&event.subject) {
                commission.follow(event)?;
            } else if !event.is::<told::Rejected>() {
                return Err(broken(format_args!(
                    "{} of {} comes before it was accrued",
                    event.event_type, event.subject
                )));
            }
        }
        Ok(Self(all))
    }

    fn live(&self) -> impl Iterator<Item = (&String, &Commission)> {
        self.0.iter().filter(|(_, commission)| !matches!(commission.state, State::Rejected | State::Superseded))
    }

    /// One live commission per conversion; what is kept of them is what the books have.
    fn agree_with_the_books(&self, reader: &Reader<'_>) -> Verdict {
        let mut seen: BTreeMap<ConversionId, &String> = BTreeMap::new();
        let mut sums: BTreeMap<(PartnerId, Currency), (i64, i64)> = BTreeMap::new();
        for (id, commission) in self.live() {
            if let Some(other) = seen.insert(commission.conversion, id) {
                return Err(broken(format_args!("{id} and {other} are both live for {}", commission.conversion)));
            }
            let sum = sums.entry((commission.partner, commission.currency)).or_default();
            match commission.state {
                State::Pending | State::Held => sum.0 += commission.kept_minor,
                _ => sum.1 += commission.kept_minor,
            }
        }
        let head = event_log::head(reader).map_err(unreadable)?;
        for found in ledger::balances(reader, head, None).map_err(unreadable)? {
            let (pending, owed) = sums.remove(&(found.partner_id, found.currency)).unwrap_or_default();
            let b = found.balance;
            let of_commissions =
                b.payable_minor + b.in_payout_minor + b.paid_minor - b.adjusted_minor - b.written_off_minor;
            if (b.pending_minor, of_commissions) != (pending, owed) {
                let partner = found.partner_id;
                return Err(broken(format_args!(
                    "{partner}: commissions keep {pending} and {owed}, the books say {b:?}"
                )));
            }
        }
        match sums.into_iter().find(|(_, sums)| *sums != (0, 0)) {
            Some(((partner, currency), sums)) => {
                Err(broken(format_args!("{partner} has {sums:?} {currency} in no book")))
            }
            None => Ok(()),
        }
    }
}

impl Commission {
    fn follow(&mut self, event: &EventRecord) -> Verdict {
        let (from, name) = (self.state, event.event_type.as_str());
        let is_over = matches!(from, State::Rejected | State::Superseded);
        let next = match name {
            told::Reversed::TYPE => {
                let reversed: told::Reversed = event.decode().map_err(unreadable)?;
                if is_over
                    || reversed.kept_minor != self.kept_minor - reversed.reversed_minor
                    || reversed.kept_minor < 0
                {
                    return Err(broken(format_args!(
                        "{} keeps {} and then {reversed:?}",
                        event.subject, self.kept_minor
                    )));
                }
                self.kept_minor = reversed.kept_minor;
                return Ok(());
            }
            told::Queued::TYPE => State::Pending,
            told::LateFactNoted::TYPE => return Ok(()),
            told::Superseded::TYPE => State::Superseded,
            told::Held::TYPE => State::Held,
            told::Released::TYPE => State::Pending,
            told::Approved::TYPE | told::PayoutUndone::TYPE => State::Approved,
            told::Rejected::TYPE => State::Rejected,
            told::PayoutStarted::TYPE => State::InPayout,
            told::PaidOut::TYPE => State::Paid,
            other => return Err(broken(format_args!("{other} is not known to the simulation"))),
        };
        let is_early = matches!(from, State::Pending | State::Held);
        let is_legal = match next {
            State::Held | State::Superseded | State::Rejected => is_early,
            State::Pending => is_early && (name == told::Queued::TYPE || from == State::Held),
            State::Approved if name == told::PayoutUndone::TYPE => matches!(from, State::InPayout | State::Paid),
            State::Approved => is_early,
            State::InPayout => from == State::Approved,
            State::Paid => from == State::InPayout,
        };
        if !is_legal {
            return Err(broken(format_args!("{} goes from {from} to {next} by {name}", event.subject)));
        }
        self.state = next;
        Ok(())
    }
}

/// Every key had at most one effect, and the books have it.
fn paid_what_the_bank_paid(sim: &Sim) -> Verdict {
    let head = sim.db.head();
    let balances = sim.db.read(|reader| ledger::balances(reader, head, None)).map_err(unreadable)?;
    let booked = balances.into_iter().map(|found| ((found.partner_id, found.currency), found.balance.paid_minor));
    let booked: BTreeMap<_, _> = booked.filter(|(_, paid_minor)| *paid_minor != 0).collect();
    let paid = sim.bank.paid();
    if booked == paid { Ok(()) } else { Err(broken(format_args!("the bank paid {paid:?}, the books say {booked:?}"))) }
}

/// What waits is what names something unknown or undecided, or belongs to such a fact. Only in worlds without commands:
/// elsewhere it is asked that whoever waits is listed with a reason, which `verify` does.
fn nothing_waits_without_need(sim: &Sim) -> Verdict {
    if sim.plan.mode != Mode::Pure {
        return Ok(());
    }
    let waiting = sim.db.read(|reader| parking::list(reader, 0, 10_000)).map_err(unreadable)?;
    let may_wait = may_wait(sim);
    match waiting.iter().find(|parked| !may_wait.contains(&parked.position)) {
        Some(parked) => Err(broken(format_args!("it waits without need: {parked:?}"))),
        None => Ok(()),
    }
}

fn may_wait(sim: &Sim) -> BTreeSet<i64> {
    let world = &sim.plan.world;
    let outcome = reference::evaluate(world);
    let is_parked = |key: &reference::Key| outcome.conversions[key].decision == Decision::Parked;
    let waits = |fact: &FactRef| match *fact {
        FactRef::Touch(index) => {
            let touch = &world.touches[index];
            let partner = world.partner(&touch.partner);
            world.campaign(&touch.campaign).is_none_or(|campaign| campaign.draft)
                || partner.is_none_or(|partner| partner.state == PartnerState::Applied)
        }
        FactRef::Conversion(index) => is_parked(&world.conversions[index].key),
        FactRef::Refund(index) => {
            let key = sale_key(&world.refunds[index]);
            // A sale that was refused at intake is not there.
            let sale = world.conversions.iter().position(|sale| sale.key == key).filter(|sale| {
                let place = sim.plan.facts.iter().position(|told| told.fact == FactRef::Conversion(*sale));
                place.is_some_and(|place| sim.receipts.contains_key(&place))
            });
            let sale = sale.map(|sale| &world.conversions[sale]).filter(|sale| !is_parked(&sale.key));
            refund_outcome(&world.refunds[index], sale) == RefundOutcome::Parked
        }
    };
    let waiting = sim.receipts.iter().filter(|(fact, _)| waits(&sim.plan.facts[**fact].fact));
    waiting.map(|(_, receipt)| receipt.position).collect()
}

/// The projection is what the log says, whenever it is built.
fn rebuilds_alike(sim: &mut Sim) -> Verdict {
    let digest = |sim: &Sim| sim.db.read(reports::content_digest).map_err(unreadable);
    let before = digest(sim)?;
    sim.command("operator", |tx| reports::rebuild(tx).map(|_| String::new())).map_err(unreadable)?;
    sim.catch_up()?;
    let after = digest(sim)?;
    if before == after { Ok(()) } else { Err(broken("the rebuilt reports differ")) }
}

/// Nothing is left to do: time and sweeps change nothing any more.
fn rests(sim: &mut Sim) -> Verdict {
    let head = sim.db.head();
    sim.sweep()?;
    sim.settle()?;
    let moved = sim.db.head() - head;
    if moved == 0 { Ok(()) } else { Err(broken(format_args!("a world at rest tells {moved} events more"))) }
}
