//! The decisions about what conversions earn, over a slice of events: loaded once, decided in order so that later events
//! see what earlier ones did, stored once. Deciding is pure: the database is touched by `load` and `store` only.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, Terms};
use events::commissions::{Accrued, CommissionState as State, Reversed};
use events::conversions::{Attributed, Refunded, Refunds, Rejected, Rule, Unattributed};
use kernel::{CampaignId, CommissionId, ConversionId, EventRecord, Fault, NewEvent, Result, Timestamp, hex};
use platform::{OnDuplicate, Tx, Value, published};

use crate::commission::{self, BonusKey, Commission, inputs_digest};
use crate::journal::{Journal, change, entries, notes};
use crate::model::{Calculation, Inputs, Position, calculate, is_frozen, is_live, kept};

/// Why a commission is rejected when the campaign's budget does not cover it.
pub(crate) const BUDGET_EXHAUSTED: &str = "budget_exhausted";

/// An event of `conversions`, decoded.
pub(crate) enum Fact {
    Attributed(Attributed),
    Unattributed(Unattributed),
    Rejected(Rejected),
    Refunded(Refunded),
}

impl Fact {
    const fn conversion_id(&self) -> ConversionId {
        match self {
            Self::Attributed(event) => event.conversion_id,
            Self::Unattributed(event) => event.conversion_id,
            Self::Rejected(event) => event.conversion_id,
            Self::Refunded(event) => event.conversion_id,
        }
    }
}

/// The bonus that a decision is about, if it can have one. Fault: `internal` when the customer is not 32 hexadecimal digits.
pub(crate) fn bonus_key(decision: &Attributed) -> Result<Option<BonusKey>> {
    let Some(customer) = decision.customer.as_ref().filter(|_| decision.first_purchase) else { return Ok(None) };
    let bytes = u128::from_str_radix(customer, 16).map_err(Fault::internal)?.to_be_bytes();
    Ok(Some((decision.campaign_id, bytes)))
}

/// Who has the bonus of a customer's first purchase.
#[derive(Debug, Clone, Copy)]
struct Holder {
    commission_id: CommissionId,
    frozen: bool,
    hold_ends_at: Timestamp,
}

/// What an attributed conversion earns now.
struct Wanted<'e> {
    decision: &'e Attributed,
    terms_version: u32,
    hold_ends_at: Timestamp,
    auto_limit_minor: Option<i64>,
    calculation: Calculation,
    bonus_key: Option<BonusKey>,
}

impl Wanted<'_> {
    /// Whether `commission` is what is wanted already.
    fn is(&self, commission: &Commission) -> bool {
        commission.partner_id == self.decision.partner_id
            && commission.campaign_id == self.decision.campaign_id
            && commission.terms_version == self.terms_version
            && commission.gross_minor == self.calculation.gross_minor
            && commission.bonus_customer.is_some() == self.calculation.bonus
    }
}

struct Entered {
    row: Commission,
    fresh: bool,
    /// The place in the journal of the last event about it; none when nothing changed.
    told: Option<i64>,
}

/// Everything that a slice is decided from, and what was decided.
pub(crate) struct Book {
    now: Timestamp,
    commissions: BTreeMap<CommissionId, Entered>,
    of_conversion: BTreeMap<ConversionId, Vec<CommissionId>>,
    campaigns: BTreeMap<CampaignId, CampaignProfile>,
    bonuses: BTreeMap<BonusKey, Option<Holder>>,
    bonuses_changed: BTreeSet<BonusKey>,
    committed: BTreeMap<CampaignId, i64>,
    spent: BTreeMap<CampaignId, i64>,
    journal: Journal,
}

impl Book {
    /// Reads what the facts are decided from; five statements at most.
    pub(crate) fn load(tx: &Tx<'_>, facts: &[(&EventRecord, Fact)]) -> Result<Self> {
        let conversions: BTreeSet<ConversionId> = facts.iter().map(|(_, fact)| fact.conversion_id()).collect();
        let conversions: Vec<ConversionId> = conversions.into_iter().collect();
        let rows = commission::by_conversion(tx, &conversions)?;
        let mut campaigns: BTreeSet<CampaignId> = rows.iter().map(|row| row.campaign_id).collect();
        let mut keys: BTreeSet<BonusKey> = rows.iter().filter_map(Commission::bonus_key).collect();
        for (_, fact) in facts {
            if let Fact::Attributed(event) = fact {
                campaigns.insert(event.campaign_id);
                keys.extend(bonus_key(event)?);
            }
        }
        let campaigns: Vec<CampaignId> = campaigns.into_iter().collect();
        let mut book = Self {
            now: tx.now(),
            commissions: BTreeMap::new(),
            of_conversion: BTreeMap::new(),
            campaigns: profiles(tx, &campaigns)?,
            bonuses: holders(tx, &keys)?,
            bonuses_changed: BTreeSet::new(),
            committed: committed(tx, &campaigns)?,
            spent: BTreeMap::new(),
            journal: Journal::default(),
        };
        for row in rows {
            book.enter(row, false, None);
        }
        Ok(book)
    }

    fn enter(&mut self, row: Commission, fresh: bool, told: Option<i64>) {
        self.of_conversion.entry(row.conversion_id).or_default().push(row.id);
        self.commissions.insert(row.id, Entered { row, fresh, told });
    }

    /// Decides one fact. `new_id` makes the id of a new commission. Faults: `amount_overflow`, `internal`.
    pub(crate) fn decide(
        &mut self,
        record: &EventRecord,
        fact: &Fact,
        new_id: impl FnOnce() -> CommissionId,
    ) -> Result<()> {
        let live = self.live(fact.conversion_id());
        match fact {
            Fact::Attributed(event) => self.attributed(record, event, live, new_id),
            Fact::Unattributed(_) => self.withdraw(record, live, "unattributed"),
            Fact::Rejected(_) => self.withdraw(record, live, "conversion_rejected"),
            Fact::Refunded(event) => match live {
                Some(id) => {
                    self.keep_for_the_decision(id, event.recorded_at);
                    self.correct(record, id, event.amount.minor(), &event.refunds)
                }
                None => Ok(()),
            },
        }
    }

    /// A refund that became known after the hold's end changes the amount, never the decision, even when that is late.
    fn keep_for_the_decision(&mut self, id: CommissionId, recorded_at: Option<Timestamp>) {
        let Some((Entered { row, .. }, recorded_at)) = self.commissions.get_mut(&id).zip(recorded_at) else { return };
        if row.due_at.is_some_and(|due_at| due_at <= recorded_at) {
            row.kept_at_hold_end_minor = row.kept_at_hold_end_minor.or(Some(row.kept_minor));
        }
    }

    fn live(&self, conversion_id: ConversionId) -> Option<CommissionId> {
        let ids = self.of_conversion.get(&conversion_id)?;
        ids.iter().copied().find(|id| self.commissions.get(id).is_some_and(|entered| is_live(entered.row.state)))
    }

    fn row(&self, id: CommissionId) -> Result<&Commission> {
        self.commissions.get(&id).map(|entered| &entered.row).ok_or_else(|| Fault::internal(format!("{id} not loaded")))
    }

    fn attributed(
        &mut self,
        record: &EventRecord,
        event: &Attributed,
        live: Option<CommissionId>,
        new_id: impl FnOnce() -> CommissionId,
    ) -> Result<()> {
        let refused = self.refusal_stands(event, live);
        let wanted = self.wanted(record, event, live)?.filter(|_| !refused);
        let Some(id) = live else {
            return wanted.map_or(Ok(()), |wanted| self.accrue(record, wanted, new_id(), None));
        };
        let row = self.row(id)?;
        let held = (row.state == State::Held).then(|| row.reason.clone().unwrap_or_default());
        if wanted.as_ref().is_some_and(|wanted| wanted.is(row)) {
            return self.correct(record, id, event.amount.minor(), &event.refunds);
        }
        if is_frozen(row.state) {
            self.note_late_fact(record, id, "attributed_otherwise")?;
            return self.correct(record, id, event.amount.minor(), &event.refunds);
        }
        self.supersede(record, id, "late_fact")?;
        wanted.map_or(Ok(()), |wanted| self.accrue(record, wanted, new_id(), held))
    }

    /// What the decision earns; none without terms in force or when that is zero.
    fn wanted<'e>(
        &self,
        record: &EventRecord,
        event: &'e Attributed,
        live: Option<CommissionId>,
    ) -> Result<Option<Wanted<'e>>> {
        let profile = self.campaigns.get(&event.campaign_id);
        let profile = profile.ok_or_else(|| Fault::internal(format!("{} is not published", event.campaign_id)))?;
        let Some((terms_version, terms)) = terms(event, profile, record.time) else { return Ok(None) };
        let bonus_key = bonus_key(event)?;
        let holder = bonus_key.and_then(|key| self.bonuses.get(&key).copied().flatten());
        // Until its hold ends, another holder is decided again by the same late fact and gives the bonus up by itself.
        let bonus_taken = holder.is_some_and(|holder| {
            Some(holder.commission_id) != live && (holder.frozen || holder.hold_ends_at <= record.time)
        });
        let calculation = calculate(terms, &Inputs::of(event, bonus_taken))?;
        let hold_ends_at = event.recorded_at.plus_days(terms.hold_days);
        let auto_limit_minor = terms.auto_approve_up_to_minor;
        let wanted = Wanted { decision: event, terms_version, hold_ends_at, auto_limit_minor, calculation, bonus_key };
        Ok((wanted.calculation.gross_minor > 0).then_some(wanted))
    }

    /// A refusal for this partner is not undone by a new decision of the machine, only by one of an operator.
    fn refusal_stands(&self, event: &Attributed, live: Option<CommissionId>) -> bool {
        let same = |row: &Commission| (row.partner_id, row.campaign_id) == (event.partner_id, event.campaign_id);
        let row = |id: &CommissionId| self.commissions.get(id).map(|entered| &entered.row);
        if event.rule == Rule::Operator || live.as_ref().and_then(row).is_some_and(same) {
            return false;
        }
        let all = self.of_conversion.get(&event.conversion_id);
        all.is_some_and(|ids| ids.iter().filter_map(row).any(|row| row.state == State::Rejected && same(row)))
    }

    fn accrue(
        &mut self,
        record: &EventRecord,
        wanted: Wanted<'_>,
        id: CommissionId,
        held: Option<String>,
    ) -> Result<()> {
        let Wanted { decision, terms_version, hold_ends_at, auto_limit_minor, calculation, bonus_key } = wanted;
        let gross_minor = calculation.gross_minor;
        let kept_minor = kept(gross_minor, decision.amount.minor(), &decision.refunds)?;
        let mut row = Commission {
            id,
            conversion_id: decision.conversion_id,
            partner_id: decision.partner_id,
            campaign_id: decision.campaign_id,
            currency: decision.amount.currency(),
            terms_version,
            gross_minor,
            // Accrued in full; what refunds took before is reversed below.
            kept_minor: gross_minor,
            kept_at_hold_end_minor: None,
            bonus_customer: bonus_key.filter(|_| calculation.bonus).map(|(_, customer)| customer),
            auto_limit_minor,
            state: State::Pending,
            queued: false,
            reason: None,
            decision_position: record.position,
            refund_position: record.position,
            inputs_digest: inputs_digest(record.position, &record.payload, terms_version, calculation.bonus),
            hold_ends_at,
            due_at: Some(hold_ends_at),
            approved_position: None,
            payout_item_id: None,
            position: 0,
            created_at: self.now,
        };
        if !self.covers(row.campaign_id, kept_minor) {
            (row.kept_minor, row.due_at) = (kept_minor, None);
            (row.state, row.reason) = (State::Rejected, Some(BUDGET_EXHAUSTED.to_owned()));
            let told = change!(Rejected, &row, None, Some(BUDGET_EXHAUSTED), &[]);
            let told = self.journal.tell(Some(record), told, Vec::new());
            self.enter(row, true, Some(told));
            return Ok(());
        }
        if let Some(key) = row.bonus_key() {
            self.bonuses.insert(key, Some(Holder { commission_id: id, frozen: false, hold_ends_at }));
            self.bonuses_changed.insert(key);
        }
        self.spend(row.campaign_id, gross_minor);
        let entries = entries(&row, row.posted().minus(Position::default()));
        let event = NewEvent::of(&accrued(&row, decision, &entries));
        let told = self.journal.tell(Some(record), event, entries);
        self.enter(row, true, Some(told));
        if let Some(reason) = held {
            self.hold(record, id, reason)?;
        }
        self.correct(record, id, decision.amount.minor(), &decision.refunds)
    }

    /// A person's stop outlives the late fact that replaces what was stopped.
    fn hold(&mut self, record: &EventRecord, id: CommissionId, reason: String) -> Result<()> {
        let mut row = self.row(id)?.clone();
        (row.state, row.due_at, row.reason) = (State::Held, None, Some(reason).filter(|reason| !reason.is_empty()));
        let event = change!(Held, &row, Some(State::Pending), row.reason.as_deref(), &[]);
        self.change(record, row, event, Vec::new());
        Ok(())
    }

    /// Posts what refunds take from a live commission, or give back: target minus posted.
    fn correct(&mut self, record: &EventRecord, id: CommissionId, amount_minor: i64, refunds: &Refunds) -> Result<()> {
        let mut row = self.row(id)?.clone();
        let target = Position::target(row.gross_minor, amount_minor, refunds)?;
        let difference = target.minus(row.posted());
        if difference.reversed_minor == 0 {
            return Ok(());
        }
        row.kept_minor = target.kept_minor;
        row.refund_position = record.position;
        self.spend(row.campaign_id, -difference.reversed_minor);
        let entries = entries(&row, difference);
        let event = NewEvent::of(&Reversed {
            commission_id: row.id,
            conversion_id: row.conversion_id,
            campaign_id: row.campaign_id,
            partner_id: row.partner_id,
            currency: row.currency,
            kept_minor: row.kept_minor,
            reversed_minor: difference.reversed_minor,
            state: row.state,
            after_approval: is_frozen(row.state),
            refund_position: row.refund_position,
            entries: notes(&entries),
        });
        self.change(record, row, event, entries);
        Ok(())
    }

    fn withdraw(&mut self, record: &EventRecord, live: Option<CommissionId>, reason: &str) -> Result<()> {
        let Some(id) = live else { return Ok(()) };
        if is_frozen(self.row(id)?.state) {
            self.note_late_fact(record, id, reason)
        } else {
            self.supersede(record, id, reason)
        }
    }

    fn note_late_fact(&mut self, record: &EventRecord, id: CommissionId, reason: &str) -> Result<()> {
        let row = self.row(id)?.clone();
        let event = change!(LateFactNoted, &row, Some(row.state), Some(reason), &[]);
        self.change(record, row, event, Vec::new());
        Ok(())
    }

    /// Undoes the accrual and its reversals, and gives up the bonus.
    fn supersede(&mut self, record: &EventRecord, id: CommissionId, reason: &str) -> Result<()> {
        let mut row = self.row(id)?.clone();
        let entries = entries(&row, Position::default().minus(row.posted()));
        self.spend(row.campaign_id, -row.kept_minor);
        let from = std::mem::replace(&mut row.state, State::Superseded);
        (row.queued, row.due_at) = (false, None);
        if let Some(key) = row.bonus_key()
            && let Some(holder) = self.bonuses.get_mut(&key)
            && holder.is_some_and(|holder| holder.commission_id == id)
        {
            *holder = None;
            self.bonuses_changed.insert(key);
        }
        let event = change!(Superseded, &row, Some(from), Some(reason), &entries);
        self.change(record, row, event, entries);
        Ok(())
    }

    fn change(&mut self, record: &EventRecord, row: Commission, event: NewEvent, entries: Vec<ledger::Entry>) {
        let told = Some(self.journal.tell(Some(record), event, entries));
        if let Some(entered) = self.commissions.get_mut(&row.id) {
            (entered.row, entered.told) = (row, told);
        }
    }

    /// Whether the campaign's budget covers `amount_minor` more.
    fn covers(&self, campaign_id: CampaignId, amount_minor: i64) -> bool {
        let budget = self.campaigns.get(&campaign_id).and_then(|profile| profile.budget_minor);
        let committed = self.committed.get(&campaign_id).copied().unwrap_or(0);
        amount_minor == 0 || budget.is_none_or(|budget| committed.saturating_add(amount_minor) <= budget)
    }

    fn spend(&mut self, campaign_id: CampaignId, amount_minor: i64) {
        for sums in [&mut self.committed, &mut self.spent] {
            let sum = sums.entry(campaign_id).or_default();
            *sum = sum.saturating_add(amount_minor);
        }
    }

    /// Publishes and writes what was decided; six statements at most, besides those of publishing.
    pub(crate) fn store(mut self, tx: &mut Tx<'_>) -> Result<()> {
        let first = self.journal.publish(tx)?;
        for entered in self.commissions.values_mut() {
            if let Some(told) = entered.told {
                entered.row.position = first + told;
            }
        }
        let rows = |fresh: bool| -> Vec<&Commission> {
            let touched = |entered: &&Entered| entered.told.is_some() && entered.fresh == fresh;
            self.commissions.values().filter(touched).map(|entered| &entered.row).collect()
        };
        commission::insert(tx, &rows(true))?;
        commission::update(tx, &rows(false))?;
        let bonuses: Vec<[Value<'_>; 3]> = self
            .bonuses
            .iter()
            .filter(|(key, _)| self.bonuses_changed.contains(key))
            .map(|((campaign, customer), holder)| {
                let commission_id = holder.as_ref().map(|holder| &holder.commission_id);
                [campaign.into(), customer.into(), commission_id.into()]
            })
            .collect();
        let columns = ["campaign_id", "customer", "commission_id"];
        let replace = OnDuplicate::Replace { key: &["campaign_id", "customer"] };
        tx.insert("first_purchase_bonus", columns, &bonuses, replace)?;
        store_spend(tx, &self.spent)?;
        self.journal.post(tx, first)
    }
}

/// The terms of a decision: one-off terms (version 0), or the campaign's version in force, as known when the decision was
/// made: however late the reaction comes, it finds the same.
pub(crate) fn terms<'t>(
    event: &'t Attributed,
    profile: &'t CampaignProfile,
    known_at: Timestamp,
) -> Option<(u32, &'t Terms)> {
    match &event.terms {
        Some(terms) => Some((0, terms)),
        None => profile.terms_at(event.occurred_at, known_at).map(|version| (version.version, &version.terms)),
    }
}

fn accrued(row: &Commission, decision: &Attributed, entries: &[ledger::Entry]) -> Accrued {
    Accrued {
        commission_id: row.id,
        conversion_id: row.conversion_id,
        campaign_id: row.campaign_id,
        partner_id: row.partner_id,
        currency: row.currency,
        terms_version: row.terms_version,
        gross_minor: row.gross_minor,
        bonus: row.bonus_customer.is_some(),
        decision_position: row.decision_position,
        inputs_digest: hex(&row.inputs_digest),
        hold_ends_at: row.hold_ends_at,
        occurred_at: decision.occurred_at,
        entries: notes(entries),
    }
}

/// The published profiles of these campaigns.
pub(crate) fn profiles(
    reader: &platform::Reader<'_>,
    campaigns: &[CampaignId],
) -> Result<BTreeMap<CampaignId, CampaignProfile>> {
    let keys: Vec<&[u8]> = campaigns.iter().map(|id| id.as_bytes().as_slice()).collect();
    let found = published::get::<CampaignProfile>(reader, &keys)?;
    let id = |key: Vec<u8>| key.try_into().map(CampaignId::from_bytes);
    found
        .into_iter()
        .map(|(key, profile)| Ok((id(key).map_err(|_| Fault::internal("a campaign's key is not an id"))?, profile)))
        .collect()
}

fn holders(tx: &Tx<'_>, keys: &BTreeSet<BonusKey>) -> Result<BTreeMap<BonusKey, Option<Holder>>> {
    let keys: Vec<[Value<'_>; 2]> =
        keys.iter().map(|(campaign, customer)| [campaign.into(), customer.into()]).collect();
    let sql = "SELECT b.campaign_id, b.customer, c.id, c.state, c.hold_ends_at FROM first_purchase_bonus b \
        JOIN commission c ON c.id = b.commission_id WHERE (b.campaign_id, b.customer) IN (?*) \
        ORDER BY b.campaign_id, b.customer";
    let found = tx.query_in(sql, &[], &keys, |row| {
        let holder = Holder { commission_id: row.id(2)?, frozen: is_frozen(row.name(3)?), hold_ends_at: row.time(4)? };
        Ok(((row.id(0)?, row.bytes16(1)?), Some(holder)))
    })?;
    Ok(found.into_iter().collect())
}

fn committed(tx: &Tx<'_>, campaigns: &[CampaignId]) -> Result<BTreeMap<CampaignId, i64>> {
    let keys: Vec<[Value<'_>; 1]> = campaigns.iter().map(|id| [id.into()]).collect();
    let sql = "SELECT campaign_id, committed_minor FROM campaign_spend WHERE campaign_id IN (?*) ORDER BY campaign_id";
    Ok(tx.query_in(sql, &[], &keys, |row| Ok((row.id(0)?, row.int(1)?)))?.into_iter().collect())
}

/// Adds to what is committed per campaign.
pub(crate) fn store_spend(tx: &mut Tx<'_>, spent: &BTreeMap<CampaignId, i64>) -> Result<()> {
    let rows: Vec<[Value<'_>; 2]> =
        spent.iter().filter(|(_, amount)| **amount != 0).map(|(id, amount)| [id.into(), (*amount).into()]).collect();
    let add = OnDuplicate::Add { key: &["campaign_id"] };
    tx.insert("campaign_spend", ["campaign_id", "committed_minor"], &rows, add)
}

/// Gives up the bonuses of rejected commissions, where they still have them.
pub(crate) fn release_bonuses(tx: &mut Tx<'_>, commissions: &[Commission]) -> Result<()> {
    let holding: Vec<(BonusKey, &Commission)> =
        commissions.iter().filter_map(|row| Some((row.bonus_key()?, row))).collect();
    let rows: Vec<[Value<'_>; 4]> = holding
        .iter()
        .map(|((campaign, customer), row)| [Value::Bytes(None), campaign.into(), customer.into(), (&row.id).into()])
        .collect();
    let key = ["campaign_id", "customer", "commission_id"];
    tx.update_many("first_purchase_bonus", &["commission_id"], &key, &rows).map(|_| ())
}
