//! The reference model over the demo's whole purchase log. The expected figures are those of `tools/recompute_demo.py`,
//! which was written without this model: the two must agree to the cent.

use std::collections::BTreeMap;
use std::io::Read;

use super::reference::*;

const DAY: i64 = 86_400_000_000;
const SECOND: i64 = 1_000_000;

/// One row of the log; `day` counts from 1970-01-01.
struct Purchase {
    line: i64,
    customer: String,
    day: i64,
    amount_minor: i64,
}

/// What the demo's table says about one partner, before any payout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    accrued_minor: i64,
    reversed_minor: i64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    attributed: usize,
    unattributed: usize,
    touches: usize,
    refunds: usize,
    chargebacks: usize,
    approved: usize,
    queued: usize,
    with_bonus: usize,
    partners: BTreeMap<String, Row>,
}

#[test]
fn the_demos_figures_are_those_of_the_recomputation() {
    let rows = [
        (1_662_741, 26_793),
        (1_577_775, 26_506),
        (1_683_682, 29_103),
        (1_682_716, 31_805),
        (1_598_030, 28_588),
        (1_694_464, 28_490),
        (1_634_577, 28_716),
        (1_682_673, 26_883),
        (1_771_036, 30_928),
        (1_602_516, 25_785),
        (1_592_282, 27_072),
        (1_631_880, 27_417),
    ];
    let partners =
        (1..).map(partner_id).zip(rows.map(|(accrued_minor, reversed_minor)| Row { accrued_minor, reversed_minor }));
    let expected = Figures {
        attributed: 64_435,
        unattributed: 5_224,
        touches: 16_162,
        refunds: 1_740,
        chargebacks: 346,
        approved: 62_956,
        queued: 1_400,
        with_bonus: 21_707,
        partners: partners.collect(),
    };
    assert_eq!(demo_figures(), expected);
}

/// Customers share nothing but the partners' balances, so each is a world of its own: the model's nested loops stay short.
fn demo_figures() -> Figures {
    let mut figures = Figures::default();
    for purchases in purchases_by_customer().values() {
        let world = customers_world(purchases);
        let outcome = evaluate(&world);
        figures.touches += world.touches.len();
        let chargebacks = world.refunds.iter().filter(|refund| refund.kind == RefundKind::Chargeback).count();
        figures.chargebacks += chargebacks;
        figures.refunds += world.refunds.len() - chargebacks;
        for conversion in outcome.conversions.values() {
            match conversion.decision {
                Decision::Attributed { .. } => figures.attributed += 1,
                Decision::Unattributed => figures.unattributed += 1,
                Decision::Parked | Decision::Rejected(_) => panic!("the demo has none: {conversion:?}"),
            }
            let Some(commission) = &conversion.commission else { continue };
            match commission.state {
                CommissionState::Approved => figures.approved += 1,
                CommissionState::Pending => figures.queued += 1,
            }
            figures.with_bonus += usize::from(commission.bonus_earned);
            let row = figures.partners.entry(commission.partner.clone()).or_default();
            row.accrued_minor += commission.gross_minor;
            row.reversed_minor += commission.gross_minor - commission.kept_minor;
        }
    }
    figures
}

fn purchases_by_customer() -> BTreeMap<String, Vec<Purchase>> {
    let compressed = include_bytes!("../../../demo/cdnow_master.txt.gz");
    let mut log = String::new();
    flate2::read::GzDecoder::new(&compressed[..]).read_to_string(&mut log).expect("the log is text");
    let mut by_customer: BTreeMap<String, Vec<Purchase>> = BTreeMap::new();
    for (row, line) in log.lines().skip(1).zip(1..) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let number = |digits: &str| digits.parse::<i64>().expect("a column of digits");
        let (year, month, day) = (number(&columns[1][..4]), number(&columns[1][4..6]), number(&columns[1][6..]));
        let purchase = Purchase {
            line,
            customer: columns[0].to_owned(),
            day: days_since_1970(year, month, day),
            amount_minor: number(&columns[3].replace('.', "")),
        };
        by_customer.entry(purchase.customer.clone()).or_default().push(purchase);
    }
    by_customer
}

/// By counting, since nothing before 1970 or far away is asked.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let of_years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let of_months: i64 = months.iter().zip(1..month).map(|(days, _)| days).sum();
    of_years + of_months + day - 1
}

fn partner_id(number: i64) -> String {
    format!("partner {number}")
}

fn partner_code(number: i64) -> String {
    format!("CODE{number}")
}

fn customers_world(purchases: &[Purchase]) -> World {
    let mut world = World {
        campaigns: vec![demo_campaign()],
        partners: (1..=12)
            .map(|number| Partner {
                id: partner_id(number),
                state: PartnerState::Activated,
                suspensions: vec![],
                terminated_at: None,
            })
            .collect(),
        enrollments: (1..=12)
            .map(|number| Enrollment {
                partner: partner_id(number),
                campaign: "CDNOW".to_owned(),
                code: Some(partner_code(number)),
                from: None,
                to: None,
            })
            .collect(),
        touches: touches(purchases),
        ..World::default()
    };
    for purchase in purchases {
        world.conversions.push(conversion(purchase));
        world.refunds.extend(refunds(purchase));
    }
    world
}

fn demo_campaign() -> Campaign {
    let version = |version, valid_from, components| Terms {
        version,
        valid_from,
        components,
        cap_minor: Some(2_500),
        hold_micros: 30 * DAY,
        auto_approve_up_to_minor: 1_000,
    };
    let component = |rate, minimum_minor| Component { rate, kinds: vec![], category: None, minimum_minor };
    let starts_at = days_since_1970(1996, 12, 1) * DAY;
    let terms_1 = vec![
        component(Rate::PercentBasisPoints(800), None),
        component(Rate::FirstPurchaseBonusMinor(150), Some(1_000)),
    ];
    let terms_2 = vec![component(Rate::PercentBasisPoints(600), None)];
    Campaign {
        id: "CDNOW".to_owned(),
        draft: false,
        currency: "USD".to_owned(),
        starts_at,
        ends_at: None,
        closed_at: None,
        pauses: vec![],
        model: Model::Last,
        window_micros: 400 * DAY,
        terms: vec![version(1, starts_at, terms_1), version(2, days_since_1970(1997, 7, 1) * DAY, terms_2)],
    }
}

fn customer_number(purchase: &Purchase) -> i64 {
    purchase.customer.parse().expect("a customer id is a number")
}

fn touches(purchases: &[Purchase]) -> Vec<Touch> {
    let Some(first) = purchases.iter().min_by_key(|purchase| purchase.day) else { return vec![] };
    let c = customer_number(first);
    let touch = |which: &str, partner, day| Touch {
        key: ("cdnow".to_owned(), format!("{} {which}", first.customer)),
        campaign: "CDNOW".to_owned(),
        partner: partner_id(partner),
        customer_ref: first.customer.clone(),
        click_id: None,
        occurred_at: day * DAY,
    };
    let mut touches = vec![];
    if [1, 2, 3].contains(&(c % 5)) {
        touches.push(touch("own", 1 + c % 12, first.day - 1));
        if c % 7 == 2 {
            touches.push(touch("second", 1 + (c + 5) % 12, first.day + 100));
        }
    }
    touches
}

/// Everything before the chargebacks is recorded while the demo's clock stands at 1998-07-15.
fn import_time() -> i64 {
    days_since_1970(1998, 7, 15) * DAY
}

fn conversion(purchase: &Purchase) -> Conversion {
    let c = customer_number(purchase);
    let own_partner = 1 + c % 12;
    Conversion {
        key: ("cdnow".to_owned(), purchase.line.to_string()),
        kind: Kind::Sale,
        category: None,
        campaign: Some("CDNOW".to_owned()),
        partner: (c % 5 == 4 && c % 50 != 49).then(|| partner_id(own_partner)),
        code: (c % 5 == 0).then(|| partner_code(own_partner)),
        click_id: None,
        customer_ref: Some(purchase.customer.clone()),
        occurred_at: purchase.day * DAY + purchase.line % 86_400 * SECOND,
        recorded_at: import_time(),
        amount_minor: purchase.amount_minor,
        currency: "USD".to_owned(),
    }
}

fn refunds(purchase: &Purchase) -> Vec<Refund> {
    let refund = |kind, amount_minor: Option<i64>, recorded_at| Refund {
        key: ("cdnow".to_owned(), format!("{kind:?} {}", purchase.line)),
        conversion_source: None,
        conversion_external_id: purchase.line.to_string(),
        kind,
        amount: amount_minor.map(|amount_minor| (amount_minor, "USD".to_owned())),
        recorded_at,
    };
    let mut refunds = vec![];
    if purchase.line % 40 == 7 && purchase.amount_minor > 0 {
        let half = (purchase.amount_minor + 1) / 2;
        refunds.push(refund(RefundKind::Refund, Some(half), import_time()));
    }
    if purchase.line % 201 == 13 && purchase.amount_minor > 0 {
        refunds.push(refund(RefundKind::Chargeback, None, days_since_1970(1998, 9, 15) * DAY));
    }
    refunds
}
