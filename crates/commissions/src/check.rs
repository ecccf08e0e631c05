//! What `verify` asks of commissions: every one is recomputed from the events that it names and compared with its row, its
//! history and its entries. Reads the decisions in the order of the log, in pieces, so that memory stays bounded.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, Terms};
use events::commissions::CommissionState as State;
use events::conversions::{Attributed, Refunded, Refunds};
use kernel::{CampaignId, CommissionId, ConversionId, EventRecord, Fault, Result, Timestamp};
use ledger::{Account, EntryKind, PostedEntry};
use platform::{Check, Reader, Value, consumer, event_log};

use crate::book::{BUDGET_EXHAUSTED, bonus_key, profiles};
use crate::commission::{self, BonusKey, Commission, inputs_digest};
use crate::model::{Inputs, after, calculate, is_frozen, is_legal, is_live, kept};
use crate::react::{DECISIONS, FACTS, NAME};

/// How many decisions are looked at together.
const PIECE: usize = 512;
/// How many differences of a kind are told.
const TOLD: usize = 10;

/// Recomputes every commission with the facts up to the position that the reaction has reached. Answers what was compared
/// and the first differences.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let mut report = Report::new();
    let up_to = consumer::position(reader, NAME)?;
    let mut reached = 0;
    loop {
        let decisions = event_log::range(reader, reached, up_to, DECISIONS, PIECE)?;
        let Some(last) = decisions.last() else { break };
        reached = last.position;
        let piece = Piece::load(reader, &decisions, up_to)?;
        for (id, conversion) in &piece.conversions {
            piece.compare(*id, conversion, &mut report)?;
        }
    }
    totals(reader, &mut report)?;
    Ok(report.into_checks())
}

struct Report {
    recomputed: Check,
    live: Check,
    histories: Check,
    entries: Check,
    bonuses: Check,
    budgets: Check,
}

impl Report {
    fn new() -> Self {
        let check = |name| Check { name, checked: 0, differences: Vec::new() };
        Self {
            recomputed: check("commissions recompute from their inputs"),
            live: check("one live commission per conversion that earns, none without"),
            histories: check("histories of commissions are legal and end in their states"),
            entries: check("entries of commissions equal their states"),
            bonuses: check("a first-purchase bonus is held once"),
            budgets: check("what campaigns have committed is what is kept"),
        }
    }

    fn into_checks(self) -> Vec<Check> {
        vec![self.recomputed, self.live, self.histories, self.entries, self.bonuses, self.budgets]
    }
}

fn expect(check: &mut Check, holds: bool, difference: impl FnOnce() -> String) {
    if !holds && check.differences.len() < TOLD {
        check.differences.push(difference());
    }
}

/// A conversion with everything that its commissions are compared with.
#[derive(Default)]
struct Conversion {
    /// What the reaction has seen, in order.
    seen: Vec<EventRecord>,
    /// Whether the reaction has more to see.
    behind: bool,
    commissions: Vec<Commission>,
}

struct Piece {
    conversions: BTreeMap<ConversionId, Conversion>,
    profiles: BTreeMap<CampaignId, CampaignProfile>,
    histories: BTreeMap<CommissionId, Vec<EventRecord>>,
    entries: BTreeMap<CommissionId, Vec<PostedEntry>>,
    holders: BTreeMap<BonusKey, CommissionId>,
}

impl Piece {
    /// The conversions whose first decision is among `decisions`, so that each is compared once.
    fn load(reader: &Reader<'_>, decisions: &[EventRecord], up_to: i64) -> Result<Self> {
        let begin = decisions.first().map_or(0, |decision| decision.position);
        let mut conversions = conversions(reader, decisions, up_to)?;
        conversions.retain(|_, conversion| {
            let first = conversion.seen.iter().find(|event| DECISIONS.contains(&event.event_type.as_str()));
            first.is_some_and(|first| first.position >= begin)
        });
        let ids: Vec<ConversionId> = conversions.keys().copied().collect();
        let rows = commission::by_conversion(reader, &ids)?;
        let histories = histories(reader, &rows)?;
        let entries = entries(reader, &histories)?;
        let mut campaigns: BTreeSet<CampaignId> = rows.iter().map(|row| row.campaign_id).collect();
        let earning = conversions.values().filter_map(|conversion| conversion.attributed().transpose());
        for decision in earning {
            campaigns.insert(decision?.0.campaign_id);
        }
        let holders = holders(reader, &rows)?;
        for row in rows {
            if let Some(conversion) = conversions.get_mut(&row.conversion_id) {
                conversion.commissions.push(row);
            }
        }
        let campaigns: Vec<CampaignId> = campaigns.into_iter().collect();
        Ok(Self { conversions, profiles: profiles(reader, &campaigns)?, histories, entries, holders })
    }

    fn compare(&self, id: ConversionId, conversion: &Conversion, report: &mut Report) -> Result<()> {
        for row in &conversion.commissions {
            report.recomputed.checked += 1;
            if let Some(difference) = self.recompute(conversion, row)? {
                expect(&mut report.recomputed, false, || format!("{}: {difference}", row.id));
            }
            self.compare_history(row, &mut report.histories);
            self.compare_entries(row, &mut report.entries);
            if let Some(key) = row.bonus_key().filter(|_| is_live(row.state) && !conversion.behind) {
                report.bonuses.checked += 1;
                let holder = self.holders.get(&key);
                expect(&mut report.bonuses, holder == Some(&row.id), || {
                    format!("{} has a bonus that {holder:?} holds", row.id)
                });
            }
        }
        report.live.checked += 1;
        if let Some(difference) = self.live_difference(conversion)? {
            expect(&mut report.live, false, || format!("{id}: {difference}"));
        }
        Ok(())
    }

    /// What is wrong with a row, seen from the events that it names.
    fn recompute(&self, conversion: &Conversion, row: &Commission) -> Result<Option<String>> {
        let event = |position: i64| conversion.seen.iter().find(|event| event.position == position);
        let (Some(record), Some(refund)) = (event(row.decision_position), event(row.refund_position)) else {
            return Ok(Some("names events that are not about its conversion".to_owned()));
        };
        let decision: Attributed = record.decode()?;
        let Some(terms) = self.terms(row, &decision, record.time) else {
            return Ok(Some(format!("terms {} were not in force", row.terms_version)));
        };
        let bonus = row.bonus_customer.is_some();
        let calculation = calculate(terms, &Inputs::of(&decision, !bonus))?;
        // A live one reflects the latest refunds; one that has ended, those that it names.
        let refunds = match conversion.refunds()? {
            Some(latest) if is_live(row.state) => latest,
            _ => refunds_of(refund)?,
        };
        let kept_minor = kept(row.gross_minor, decision.amount.minor(), &refunds)?;
        let bonus_key = bonus_key(&decision)?.filter(|_| bonus);
        Ok(if (decision.partner_id, decision.campaign_id) != (row.partner_id, row.campaign_id) {
            Some("another partner or campaign than its decision".to_owned())
        } else if decision.amount.currency() != row.currency {
            Some("another currency than its decision".to_owned())
        } else if (calculation.gross_minor, calculation.bonus, bonus_key) != (row.gross_minor, bonus, row.bonus_key()) {
            Some(format!("gross {} instead of {}", row.gross_minor, calculation.gross_minor))
        } else if kept_minor != row.kept_minor {
            Some(format!("kept {} instead of {kept_minor}", row.kept_minor))
        } else if inputs_digest(record.position, &record.payload, row.terms_version, bonus) != row.inputs_digest {
            Some("the digest of its inputs differs".to_owned())
        } else if decision.recorded_at.plus_days(terms.hold_days) != row.hold_ends_at
            || terms.auto_approve_up_to_minor != row.auto_limit_minor
        {
            Some("hold or automatic limit differ from its terms".to_owned())
        } else {
            None
        })
    }

    /// The terms that a row names, if they were in force as known when its decision was made.
    fn terms<'t>(&'t self, row: &Commission, decision: &'t Attributed, known_at: Timestamp) -> Option<&'t Terms> {
        if let Some(terms) = &decision.terms {
            return (row.terms_version == 0).then_some(terms);
        }
        let profile = self.profiles.get(&row.campaign_id)?;
        let in_force = |known_at: Timestamp| profile.terms_at(decision.occurred_at, known_at);
        // A version published at the very instant may have come before or after it.
        let just_before = Timestamp::from_micros(known_at.as_micros() - 1);
        let candidates = [in_force(known_at), in_force(just_before)];
        candidates
            .into_iter()
            .flatten()
            .find(|version| version.version == row.terms_version)
            .map(|version| &version.terms)
    }

    /// What is wrong with the live commission of a conversion, or with there being none.
    fn live_difference(&self, conversion: &Conversion) -> Result<Option<String>> {
        let live: Vec<&Commission> = conversion.commissions.iter().filter(|row| is_live(row.state)).collect();
        let decision = conversion.attributed()?;
        let (row, (decision, known_at)) = match (live.as_slice(), decision) {
            ([], None) => return Ok(None),
            ([], Some((decision, known_at))) => return self.missing(conversion, &decision, known_at),
            ([row], _) if is_frozen(row.state) => return Ok(None),
            ([row], None) => return Ok(Some(format!("{} is live without an attribution", row.id))),
            ([row], Some(latest)) => (row, latest),
            _ => return Ok(Some(format!("{} live commissions", live.len()))),
        };
        let bonus = row.bonus_customer.is_some();
        let Some(terms) = self.terms(row, &decision, known_at) else { return Ok(Some("terms differ".to_owned())) };
        let calculation = calculate(terms, &Inputs::of(&decision, !bonus))?;
        let same = (row.partner_id, row.campaign_id, row.gross_minor, bonus)
            == (decision.partner_id, decision.campaign_id, calculation.gross_minor, calculation.bonus);
        Ok((!same).then(|| format!("{} is not what its latest attribution earns", row.id)))
    }

    /// An attributed conversion without a live commission: it earns nothing, or the partner was refused.
    fn missing(&self, conversion: &Conversion, decision: &Attributed, known_at: Timestamp) -> Result<Option<String>> {
        let refused = conversion.commissions.iter().any(|row| {
            row.state == State::Rejected
                && (row.partner_id, row.campaign_id) == (decision.partner_id, decision.campaign_id)
        });
        let profile = self.profiles.get(&decision.campaign_id);
        // A version published at the very instant may have come before or after it.
        let instants = [known_at, Timestamp::from_micros(known_at.as_micros() - 1)];
        let candidates = instants.map(|at| profile.and_then(|profile| crate::book::terms(decision, profile, at)));
        let mut found = None;
        for (version, terms) in candidates.into_iter().flatten().filter(|_| !refused) {
            // Without the bonus, which another commission may hold.
            let gross_minor = calculate(terms, &Inputs::of(decision, true))?.gross_minor;
            if gross_minor == 0 {
                return Ok(None);
            }
            found = Some(format!("earns {gross_minor} under terms {version} and has no live commission"));
        }
        Ok(found)
    }

    fn compare_history(&self, row: &Commission, check: &mut Check) {
        check.checked += 1;
        let mut state = None;
        for event in self.histories.get(&row.id).into_iter().flatten() {
            let Some(next) = after(&event.event_type) else { continue };
            expect(check, is_legal(state, next), || {
                format!("{}: from {state:?} to {next} at {}", row.id, event.position)
            });
            state = Some(next);
        }
        expect(check, state == Some(row.state), || {
            format!("{} is {} and its history ends in {state:?}", row.id, row.state)
        });
    }

    fn compare_entries(&self, row: &Commission, check: &mut Check) {
        let entries = self.entries.get(&row.id).map_or(&[][..], Vec::as_slice);
        check.checked += 1;
        let sum = |sign: &dyn Fn(EntryKind) -> i64| -> i64 {
            entries.iter().map(|posted| sign(posted.entry.kind) * posted.entry.amount_minor).sum()
        };
        let pending = sum(&|kind| kind.sign(Account::PartnerPending));
        let payable = sum(&|kind| kind.sign(Account::PartnerPayable));
        let accrued = sum(&|kind| match kind {
            EntryKind::Accrued => 1,
            EntryKind::Undone => -1,
            _ => 0,
        });
        let wanted = match row.state {
            State::Pending | State::Held => (row.kept_minor, 0, row.gross_minor),
            State::Approved | State::InPayout | State::Paid => (0, row.kept_minor, row.gross_minor),
            State::Superseded => (0, 0, 0),
            State::Rejected if row.reason.as_deref() == Some(BUDGET_EXHAUSTED) && entries.is_empty() => (0, 0, 0),
            State::Rejected => (0, 0, row.gross_minor),
        };
        let found = (pending, payable, accrued);
        expect(check, found == wanted, || {
            format!("{} ({}): pending, payable, accrued {found:?} instead of {wanted:?}", row.id, row.state)
        });
        let about = |posted: &PostedEntry| {
            (posted.entry.partner_id, posted.entry.currency) == (row.partner_id, row.currency)
                && posted.entry.campaign_id.is_none_or(|campaign| campaign == row.campaign_id)
        };
        expect(check, entries.iter().all(about), || format!("{}: an entry names somebody else", row.id));
    }
}

impl Conversion {
    /// The latest decision, if it credits a partner, and when it was made.
    fn attributed(&self) -> Result<Option<(Attributed, Timestamp)>> {
        let decision = self.seen.iter().rev().find(|event| DECISIONS.contains(&event.event_type.as_str()));
        let decision = decision.filter(|event| event.is::<Attributed>());
        decision.map(|event| Ok((event.decode()?, event.time))).transpose()
    }

    /// The latest refunds that an event tells.
    fn refunds(&self) -> Result<Option<Refunds>> {
        let tells = |event: &&EventRecord| event.is::<Attributed>() || event.is::<Refunded>();
        self.seen.iter().rev().find(tells).map(refunds_of).transpose()
    }
}

/// The refunds that an event tells.
pub(crate) fn refunds_of(record: &EventRecord) -> Result<Refunds> {
    if record.is::<Refunded>() {
        record.decode::<Refunded>().map(|event| event.refunds)
    } else {
        record.decode::<Attributed>().map(|event| event.refunds)
    }
}

fn conversions(
    reader: &Reader<'_>,
    decisions: &[EventRecord],
    up_to: i64,
) -> Result<BTreeMap<ConversionId, Conversion>> {
    let subjects: BTreeSet<&str> = decisions.iter().map(|decision| decision.subject.as_str()).collect();
    let subjects: Vec<&str> = subjects.into_iter().collect();
    let mut found: BTreeMap<ConversionId, Conversion> = BTreeMap::new();
    for event in event_log::of_subjects(reader, &subjects, FACTS)? {
        let conversion = found.entry(event.subject.parse().map_err(Fault::internal)?).or_default();
        if event.position <= up_to {
            conversion.seen.push(event);
        } else {
            conversion.behind = true;
        }
    }
    Ok(found)
}

fn histories(reader: &Reader<'_>, rows: &[Commission]) -> Result<BTreeMap<CommissionId, Vec<EventRecord>>> {
    let subjects: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let mut found: BTreeMap<CommissionId, Vec<EventRecord>> = BTreeMap::new();
    for event in event_log::of_subjects(reader, &subjects, &[])? {
        found.entry(event.subject.parse().map_err(Fault::internal)?).or_default().push(event);
    }
    Ok(found)
}

fn entries(
    reader: &Reader<'_>,
    histories: &BTreeMap<CommissionId, Vec<EventRecord>>,
) -> Result<BTreeMap<CommissionId, Vec<PostedEntry>>> {
    let positions: Vec<i64> = histories.values().flatten().map(|event| event.position).collect();
    let mut found: BTreeMap<CommissionId, Vec<PostedEntry>> = BTreeMap::new();
    for posted in ledger::entries_at(reader, &positions)? {
        found.entry(CommissionId::from_bytes(posted.entry.source_id)).or_default().push(posted);
    }
    Ok(found)
}

fn holders(reader: &Reader<'_>, rows: &[Commission]) -> Result<BTreeMap<BonusKey, CommissionId>> {
    let keys: Vec<BonusKey> = rows.iter().filter_map(Commission::bonus_key).collect();
    let keys: Vec<[Value<'_>; 2]> =
        keys.iter().map(|(campaign, customer)| [campaign.into(), customer.into()]).collect();
    let sql = "SELECT campaign_id, customer, commission_id FROM first_purchase_bonus \
        WHERE commission_id IS NOT NULL AND (campaign_id, customer) IN (?*) ORDER BY campaign_id, customer";
    let found = reader.query_in(sql, &[], &keys, |row| Ok(((row.id(0)?, row.bytes16(1)?), row.id(2)?)))?;
    Ok(found.into_iter().collect())
}

/// What only the whole tables tell: no commission of a conversion without a decision, and the sums per campaign.
fn totals(reader: &Reader<'_>, report: &mut Report) -> Result<()> {
    let rows = reader.query_one("SELECT CAST(COUNT(*) AS BIGINT) FROM commission", &[], |row| row.int(0))?.unwrap_or(0);
    let seen = report.recomputed.checked;
    expect(&mut report.recomputed, rows == seen, || {
        format!("{rows} commissions, {seen} of them of decided conversions")
    });
    let kept = "SELECT campaign_id, CAST(SUM(kept_minor) AS BIGINT) FROM commission \
        WHERE state NOT IN ('rejected', 'superseded') GROUP BY campaign_id ORDER BY campaign_id";
    let kept: BTreeMap<CampaignId, i64> =
        reader.query(kept, &[], |row| Ok((row.id(0)?, row.int(1)?)))?.into_iter().collect();
    let committed = "SELECT campaign_id, committed_minor FROM campaign_spend ORDER BY campaign_id";
    let committed: BTreeMap<CampaignId, i64> =
        reader.query(committed, &[], |row| Ok((row.id(0)?, row.int(1)?)))?.into_iter().collect();
    let campaigns: BTreeSet<&CampaignId> = kept.keys().chain(committed.keys()).collect();
    for campaign in campaigns {
        report.budgets.checked += 1;
        let amount = |sums: &BTreeMap<CampaignId, i64>| sums.get(campaign).copied().unwrap_or(0);
        let (kept, committed) = (amount(&kept), amount(&committed));
        expect(&mut report.budgets, kept == committed, || format!("{campaign}: {committed} committed, {kept} kept"));
    }
    Ok(())
}
