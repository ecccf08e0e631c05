//! Why a commission is what it is: its inputs, its terms, each step with its rounding, what refunds left, the entries and
//! the history. Everything is recomputed from the stored events, so that the explanation proves the amount.

use events::campaigns::Terms;
use events::commissions::CommissionState;
use events::conversions::{Attributed, ConversionKind, Line, Refunds, Rule};
use kernel::{CommissionId, Currency, EventRecord, Fault, Money, Result, Timestamp, hex};
use ledger::PostedEntry;
use platform::{Reader, event_log};
use serde::{Deserialize, Serialize};

use crate::book::profiles;
use crate::check::refunds_of;
use crate::commission::{Commission, inputs_digest};
use crate::model::{Inputs, Skip, Step, after, calculate, kept};
use crate::views::{self, CommissionView};

/// Why a commission is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ExplanationView {
    /// The commission.
    pub commission: CommissionView,
    /// What it was computed from.
    pub inputs: InputsView,
    /// The terms that were applied.
    pub terms: TermsView,
    /// How the gross came about.
    pub calculation: CalculationView,
    /// What refunds left of it.
    pub refunds: RefundsView,
    /// The ledger's entries, in order.
    pub entries: Vec<EntryView>,
    /// What happened to it, in order.
    pub transitions: Vec<TransitionView>,
}

/// What a commission was computed from: a decision about its conversion.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct InputsView {
    /// The position of the decision in the event log.
    pub decision_position: i64,
    /// The decision's number.
    pub decision: u32,
    /// The rule that decided.
    pub rule: Rule,
    /// What the conversion is.
    pub kind: ConversionKind,
    /// When it happened: decides the terms.
    pub occurred_at: Timestamp,
    /// When it became known: the hold counts from here.
    pub recorded_at: Timestamp,
    /// What it is worth.
    pub amount: Money,
    /// Its lines, if they were told.
    pub lines: Vec<Line>,
    /// Whether it was the customer's first sale in the campaign.
    pub first_purchase: bool,
    /// Digest over these inputs as stored with the commission, 32 hexadecimal digits.
    pub digest: String,
    /// Whether the digest computed now is the stored one.
    pub digest_matches: bool,
}

/// The terms that were applied.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TermsView {
    /// The version of the campaign's terms; 0: one-off terms that came with the conversion.
    pub version: u32,
    /// In force from here on; absent for one-off terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// The terms.
    pub terms: Terms,
}

/// How the gross came about.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CalculationView {
    /// The steps, in order.
    pub steps: Vec<StepView>,
    /// Their result, minor units.
    pub gross_minor: i64,
    /// Whether that is what the commission has.
    pub matches: bool,
}

/// One step of the calculation.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepView {
    /// A share of the amount or of the matching lines, rounded half-up.
    Percent {
        /// The component's number in the terms, from 1.
        component: usize,
        /// What the share is of, minor units.
        of_minor: i64,
        /// Hundredths of a percent.
        basis_points: u32,
        /// Before rounding, minor units as a decimal number.
        exact_minor: String,
        /// Rounded half-up, minor units.
        amount_minor: i64,
    },
    /// A fixed amount.
    Flat {
        /// The component's number in the terms, from 1.
        component: usize,
        /// Minor units.
        amount_minor: i64,
    },
    /// The bonus for the customer's first sale in the campaign.
    FirstPurchaseBonus {
        /// The component's number in the terms, from 1.
        component: usize,
        /// Minor units.
        amount_minor: i64,
    },
    /// A component that gave nothing.
    Skipped {
        /// The component's number in the terms, from 1.
        component: usize,
        /// Why.
        reason: Skip,
    },
    /// The cap cut the sum.
    Cap {
        /// The sum of the components, minor units.
        sum_minor: i64,
        /// The cap: the result, minor units.
        cap_minor: i64,
    },
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        match step {
            Step::Percent { component, of_minor, basis_points, amount_minor } => {
                let exact_minor = decimal(i128::from(of_minor) * i128::from(basis_points), 10_000);
                Self::Percent { component, of_minor, basis_points, exact_minor, amount_minor }
            }
            Step::Flat { component, amount_minor } => Self::Flat { component, amount_minor },
            Step::FirstPurchaseBonus { component, amount_minor } => {
                Self::FirstPurchaseBonus { component, amount_minor }
            }
            Step::Skipped { component, reason } => Self::Skipped { component, reason },
            Step::Cap { sum_minor, cap_minor } => Self::Cap { sum_minor, cap_minor },
        }
    }
}

/// What refunds left of the gross: `gross · (amount − refunded) / amount`, rounded half-up.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RefundsView {
    /// The position of the event that told them.
    pub position: i64,
    /// What was taken back of the conversion, minor units.
    pub refunded_minor: i64,
    /// The part of the refunds above the conversion's amount, minor units: without effect.
    pub excess_minor: i64,
    /// What is kept of the gross before rounding, minor units as a decimal number of at most four places.
    pub exact_minor: String,
    /// What is kept, rounded half-up, minor units.
    pub kept_minor: i64,
    /// Whether that is what the commission has.
    pub matches: bool,
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct EntryView {
    /// The position of the event that tells it.
    pub position: i64,
    /// When it was posted.
    pub posted_at: Timestamp,
    /// The kind of entry.
    pub kind: String,
    /// The account that is debited.
    pub debit: String,
    /// The account that is credited.
    pub credit: String,
    /// Minor units, above zero.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
    /// Digest over the entry, as told by its event.
    pub digest: String,
}

impl From<PostedEntry> for EntryView {
    fn from(posted: PostedEntry) -> Self {
        let entry = &posted.entry;
        let name =
            |account: ledger::Account| account.name(entry.partner_id, entry.campaign_id, entry.gateway.as_deref());
        let (debit, credit) = entry.kind.sides();
        Self {
            position: posted.position,
            posted_at: posted.posted_at,
            kind: entry.kind.to_string(),
            debit: name(debit),
            credit: name(credit),
            amount_minor: entry.amount_minor,
            currency: entry.currency,
            digest: entry.digest(),
        }
    }
}

/// Something that happened to a commission.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TransitionView {
    /// The event's position.
    pub position: i64,
    /// When.
    pub at: Timestamp,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The state from here on; absent when it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<CommissionState>,
    /// Who did it.
    pub actor: String,
    /// Why, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was kept from here on, minor units; absent for the accrual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_minor: Option<i64>,
}

/// How many events of one commission are shown at most; no life is that long.
const HISTORY: usize = 1_000;

/// Explains a commission. Fault: `commission_not_found`.
pub fn explanation(reader: &Reader<'_>, id: CommissionId) -> Result<ExplanationView> {
    let row = views::row(reader, id)?;
    let sources = event_log::at(reader, &[row.decision_position, row.refund_position])?;
    let source = |position: i64| {
        let found = sources.iter().find(|record| record.position == position);
        found.ok_or_else(|| Fault::internal(format!("{id} names no event at {position}")))
    };
    let record = source(row.decision_position)?;
    let decision: Attributed = record.decode()?;
    let terms = applied_terms(reader, &row, &decision)?;
    let inputs = Inputs::of(&decision, row.bonus_customer.is_none());
    let calculation = calculate(&terms.terms, &inputs)?;
    let refunds = refunds_of(source(row.refund_position)?)?;
    let history = event_log::of_subject(reader, &id.to_string(), 0, HISTORY)?;
    let positions: Vec<i64> = history.iter().map(|record| record.position).collect();
    let entries = ledger::entries_at(reader, &positions)?;
    Ok(ExplanationView {
        inputs: inputs_view(&row, record, &decision),
        terms,
        calculation: CalculationView {
            matches: calculation.gross_minor == row.gross_minor,
            gross_minor: calculation.gross_minor,
            steps: calculation.steps.into_iter().map(StepView::from).collect(),
        },
        refunds: refunds_view(&row, decision.amount.minor(), &refunds)?,
        entries: entries.into_iter().map(EntryView::from).collect(),
        transitions: history.iter().map(transition).collect::<Result<_>>()?,
        commission: row.into(),
    })
}

/// The version of terms that a commission names.
fn applied_terms(reader: &Reader<'_>, row: &Commission, decision: &Attributed) -> Result<TermsView> {
    if let Some(terms) = &decision.terms {
        return Ok(TermsView { version: 0, valid_from: None, terms: terms.clone() });
    }
    let profiles = profiles(reader, &[row.campaign_id])?;
    let versions = profiles.into_values().flat_map(|profile| profile.terms);
    let version = versions.into_iter().find(|version| version.version == row.terms_version);
    let version =
        version.ok_or_else(|| Fault::internal(format!("{} names unknown terms {}", row.id, row.terms_version)))?;
    Ok(TermsView { version: version.version, valid_from: Some(version.valid_from), terms: version.terms })
}

fn inputs_view(row: &Commission, record: &EventRecord, decision: &Attributed) -> InputsView {
    let bonus = row.bonus_customer.is_some();
    let digest = inputs_digest(record.position, &record.payload, row.terms_version, bonus);
    InputsView {
        decision_position: record.position,
        decision: decision.decision,
        rule: decision.rule,
        kind: decision.kind,
        occurred_at: decision.occurred_at,
        recorded_at: decision.recorded_at,
        amount: decision.amount.into(),
        lines: decision.lines.clone(),
        first_purchase: decision.first_purchase,
        digest: hex(&row.inputs_digest),
        digest_matches: digest == row.inputs_digest,
    }
}

fn refunds_view(row: &Commission, amount_minor: i64, refunds: &Refunds) -> Result<RefundsView> {
    let kept_minor = kept(row.gross_minor, amount_minor, refunds)?;
    let exact_minor = if amount_minor == 0 {
        kept_minor.to_string()
    } else {
        let left = (amount_minor - refunds.refunded_minor).max(0);
        decimal(i128::from(row.gross_minor) * i128::from(left), i128::from(amount_minor))
    };
    Ok(RefundsView {
        position: row.refund_position,
        refunded_minor: refunds.refunded_minor,
        excess_minor: refunds.excess_minor,
        exact_minor,
        kept_minor,
        matches: kept_minor == row.kept_minor,
    })
}

fn transition(record: &EventRecord) -> Result<TransitionView> {
    /// What most events about a commission carry.
    #[derive(Deserialize)]
    struct Told {
        reason: Option<String>,
        kept_minor: Option<i64>,
    }
    let told: Told = serde_json::from_str(&record.payload).map_err(Fault::internal)?;
    Ok(TransitionView {
        position: record.position,
        at: record.time,
        event_type: record.event_type.clone(),
        state: after(&record.event_type),
        actor: record.actor.clone(),
        reason: told.reason,
        kept_minor: told.kept_minor,
    })
}

/// `numerator / denominator` (zero or more, above zero) as a decimal number, cut after four places.
fn decimal(numerator: i128, denominator: i128) -> String {
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    let text = format!("{whole}.{:04}", rest * 10_000 / denominator);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
