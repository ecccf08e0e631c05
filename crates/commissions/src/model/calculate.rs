//! What a conversion earns under its terms (rules section 5), step by step, so that every amount can be explained.

use events::campaigns::{Component, Conditions, Terms};
use events::conversions::{Attributed, ConversionKind, Line};
use kernel::{Fault, Result, problems};

/// What terms are applied to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'e> {
    /// What the conversion is.
    pub(crate) kind: ConversionKind,
    /// What it is worth, minor units.
    pub(crate) amount_minor: i64,
    /// Its lines, if they were told.
    pub(crate) lines: &'e [Line],
    /// Whether it is the customer's first sale in the campaign.
    pub(crate) first_purchase: bool,
    /// Whether another commission has the customer's bonus for good.
    pub(crate) bonus_taken: bool,
}

impl<'e> Inputs<'e> {
    /// The inputs that a decision carries.
    pub(crate) fn of(decision: &'e Attributed, bonus_taken: bool) -> Self {
        Self {
            kind: decision.kind,
            amount_minor: decision.amount.minor(),
            lines: &decision.lines,
            first_purchase: decision.first_purchase && decision.customer.is_some(),
            bonus_taken,
        }
    }
}

/// What terms give for a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calculation {
    /// How it came about, in the order of the terms' components; the cap comes last.
    pub(crate) steps: Vec<Step>,
    /// Minor units, zero or more, before refunds.
    pub(crate) gross_minor: i64,
    /// Whether a first-purchase bonus is part of it, even when the cap cuts it away.
    pub(crate) bonus: bool,
}

kernel::names! {
    /// Why a component of the terms gave nothing.
    pub enum Skip {
        /// It is for conversions of another kind.
        Kind = "kind",
        /// No line has one of its categories.
        Category = "category",
        /// The conversion is worth less than its minimum.
        MinimumAmount = "minimum_amount",
        /// It is not the customer's first sale in the campaign, or the customer is not known.
        NotFirstPurchase = "not_first_purchase",
        /// Another commission of the customer has the bonus already, for good.
        BonusTaken = "bonus_taken",
    }
}

/// One step of a calculation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A share of the amount or of the matching lines, rounded half-up.
    Percent {
        /// The component's number in the terms, from 1.
        component: usize,
        /// What the share is of, minor units.
        of_minor: i64,
        /// Hundredths of a percent.
        basis_points: u32,
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
        /// The cap, minor units.
        cap_minor: i64,
    },
}

/// Applies terms to a conversion: each percent component rounded half-up by itself, plus flat amounts and bonus, then
/// the cap; never below zero. Fault: `amount_overflow`.
pub(crate) fn calculate(terms: &Terms, inputs: &Inputs<'_>) -> Result<Calculation> {
    let mut steps = Vec::with_capacity(terms.components.len() + 1);
    let mut sum_minor: i64 = 0;
    let mut bonus = false;
    for (component, part) in (1..).zip(&terms.components) {
        let step = apply(component, part, inputs)?;
        let amount_minor = match step {
            Step::Percent { amount_minor, .. } | Step::Flat { amount_minor, .. } => amount_minor,
            Step::FirstPurchaseBonus { amount_minor, .. } => {
                bonus = true;
                amount_minor
            }
            Step::Skipped { .. } | Step::Cap { .. } => 0,
        };
        sum_minor = sum_minor.checked_add(amount_minor).ok_or_else(|| {
            Fault::new(&problems::AMOUNT_OVERFLOW, "the sum of a commission's components leaves the range of i64")
        })?;
        steps.push(step);
    }
    let mut gross_minor = sum_minor;
    if let Some(cap_minor) = terms.cap_minor.filter(|cap_minor| *cap_minor < sum_minor) {
        steps.push(Step::Cap { sum_minor, cap_minor });
        gross_minor = cap_minor;
    }
    Ok(Calculation { steps, gross_minor: gross_minor.max(0), bonus })
}

fn apply(component: usize, part: &Component, inputs: &Inputs<'_>) -> Result<Step> {
    let conditions = match part {
        Component::Percent { conditions, .. }
        | Component::Flat { conditions, .. }
        | Component::FirstPurchaseBonus { conditions, .. } => conditions,
    };
    let of_minor = match base(conditions, inputs) {
        Ok(of_minor) => of_minor,
        Err(reason) => return Ok(Step::Skipped { component, reason }),
    };
    Ok(match part {
        Component::Percent { basis_points, .. } => Step::Percent {
            component,
            of_minor,
            basis_points: basis_points.get(),
            amount_minor: basis_points.of(of_minor)?,
        },
        Component::Flat { amount_minor, .. } => Step::Flat { component, amount_minor: *amount_minor },
        Component::FirstPurchaseBonus { .. } if !inputs.first_purchase => {
            Step::Skipped { component, reason: Skip::NotFirstPurchase }
        }
        Component::FirstPurchaseBonus { .. } if inputs.bonus_taken => {
            Step::Skipped { component, reason: Skip::BonusTaken }
        }
        Component::FirstPurchaseBonus { amount_minor, .. } => {
            Step::FirstPurchaseBonus { component, amount_minor: *amount_minor }
        }
    })
}

/// The part of the amount that a component is about, or why it is about none of it.
fn base(conditions: &Conditions, inputs: &Inputs<'_>) -> Result<i64, Skip> {
    if !conditions.kinds.is_empty() && !conditions.kinds.contains(&inputs.kind) {
        return Err(Skip::Kind);
    }
    if conditions.minimum_amount_minor.is_some_and(|minimum| inputs.amount_minor < minimum) {
        return Err(Skip::MinimumAmount);
    }
    if conditions.categories.is_empty() {
        return Ok(inputs.amount_minor);
    }
    let matching = inputs.lines.iter().filter(|line| conditions.categories.contains(&line.category));
    // Lines are part of the amount; should they claim more than the range of i64, the percentage overflows and says so.
    matching.map(|line| line.amount_minor).reduce(i64::saturating_add).ok_or(Skip::Category)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{BasisPoints, Key};

    fn terms(components: Vec<Component>, cap_minor: Option<i64>) -> Terms {
        Terms { components, cap_minor, hold_days: 30, auto_approve_up_to_minor: None }
    }

    fn percent(basis_points: u32, conditions: Conditions) -> Component {
        Component::Percent { basis_points: BasisPoints::new(basis_points).unwrap(), conditions }
    }

    fn flat(amount_minor: i64, conditions: Conditions) -> Component {
        Component::Flat { amount_minor, conditions }
    }

    fn bonus(amount_minor: i64, conditions: Conditions) -> Component {
        Component::FirstPurchaseBonus { amount_minor, conditions }
    }

    fn line(category: &str, amount_minor: i64) -> Line {
        Line { category: Key::new(category).unwrap(), amount_minor }
    }

    fn any() -> Conditions {
        Conditions::default()
    }

    fn category(name: &str) -> Conditions {
        Conditions { categories: vec![Key::new(name).unwrap()], ..any() }
    }

    fn minimum(minor: i64) -> Conditions {
        Conditions { minimum_amount_minor: Some(minor), ..any() }
    }

    fn sale(amount_minor: i64) -> Inputs<'static> {
        let kind = ConversionKind::Sale;
        Inputs { kind, amount_minor, lines: &[], first_purchase: false, bonus_taken: false }
    }

    #[test]
    fn components_add_up_and_the_cap_comes_last() {
        let only_leads = Conditions { kinds: vec![ConversionKind::Lead], ..any() };
        /// What it shows, components, cap, amount, gross.
        type Case = (&'static str, Vec<Component>, Option<i64>, i64, i64);
        let cases: Vec<Case> = vec![
            ("8 % of 11.77 is 94.16 cents", vec![percent(800, any())], None, 1_177, 94),
            ("half a cent goes up", vec![percent(5_000, any())], None, 1, 1),
            ("just below half a cent goes down", vec![percent(4_999, any())], None, 1, 0),
            ("each percentage is rounded by itself", vec![percent(50, any()), percent(50, any())], None, 100, 2),
            ("percent and flat", vec![percent(800, any()), flat(25, any())], None, 1_177, 119),
            ("the cap cuts the sum", vec![percent(800, any()), flat(2_000, any())], Some(2_050), 1_177, 2_050),
            ("a cap that is not reached", vec![percent(800, any())], Some(94), 1_177, 94),
            ("a cap of nothing", vec![flat(5, any())], Some(0), 100, 0),
            ("the minimum is inclusive", vec![flat(7, minimum(100))], None, 100, 7),
            ("below the minimum", vec![flat(7, minimum(100))], None, 99, 0),
            ("another kind", vec![flat(7, only_leads), flat(2, any())], None, 100, 2),
            ("flat of a sale worth nothing", vec![percent(800, any()), flat(3, any())], None, 0, 3),
            ("no lines, no category", vec![percent(800, category("music"))], None, 1_177, 0),
        ];
        for (name, components, cap, amount, gross) in cases {
            assert_eq!(calculate(&terms(components, cap), &sale(amount)).unwrap().gross_minor, gross, "{name}");
        }
    }

    #[test]
    fn categories_count_the_matching_lines() {
        let lines = [line("music", 333), line("books", 500), line("music", 150)];
        let inputs = Inputs { lines: &lines, ..sale(983) };
        let parts = vec![percent(1_000, category("music")), flat(5, category("music")), flat(7, category("toys"))];
        let found = calculate(&terms(parts, None), &inputs).unwrap();
        // 10 % of 4.83 is 48.3 cents; the flat amount comes once, however many lines match.
        assert_eq!(found.gross_minor, 48 + 5);
        assert_eq!(found.steps[2], Step::Skipped { component: 3, reason: Skip::Category });
        assert_eq!(
            found.steps[0],
            Step::Percent { component: 1, of_minor: 483, basis_points: 1_000, amount_minor: 48 }
        );
    }

    #[test]
    fn the_bonus_is_for_a_first_purchase_that_nobody_has_yet() {
        let terms = terms(vec![percent(800, any()), bonus(150, minimum(1_000))], Some(200));
        let gross = |first_purchase, bonus_taken, amount| {
            let found = calculate(&terms, &Inputs { first_purchase, bonus_taken, ..sale(amount) }).unwrap();
            (found.gross_minor, found.bonus)
        };
        assert_eq!(gross(true, false, 1_000), (200, true), "80 and 150, capped: the bonus counts as earned");
        assert_eq!(gross(true, true, 1_000), (80, false));
        assert_eq!(gross(false, false, 1_000), (80, false));
        assert_eq!(gross(true, false, 999), (80, false), "below its minimum");
        let taken = calculate(&terms, &Inputs { first_purchase: true, bonus_taken: true, ..sale(1_000) }).unwrap();
        assert_eq!(taken.steps[1], Step::Skipped { component: 2, reason: Skip::BonusTaken });
    }

    #[test]
    fn amounts_that_cannot_be_are_refused() {
        let huge = terms(vec![flat(i64::MAX, any()), flat(1, any())], None);
        assert_eq!(calculate(&huge, &sale(1)).unwrap_err().code(), "amount_overflow");
        let all = calculate(&terms(vec![percent(10_000, any())], None), &sale(i64::MAX)).unwrap();
        assert_eq!(all.gross_minor, i64::MAX);
    }
}
