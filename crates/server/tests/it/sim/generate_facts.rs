//! Random facts over a plan's campaigns and partners.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::generate::{CATEGORIES, half_day};
use super::plan::{FactRef, HALF_DAY, Mode, Naming, Plan, Told};
use super::reference::{Conversion, Key, Kind, Refund, RefundKind, Touch};

/// Amounts at the edges of rounding (5 % of 10 is half a cent), of minimums and of caps.
const AMOUNTS: [i64; 16] = [0, 1, 10, 10, 50, 99, 100, 100, 149, 150, 250, 333, 1_000, 1_005, 2_000, 9_999];
const CUSTOMERS: [&str; 5] = ["ann", "bob", "cem", "dee", "eva"];
const CLICKS: [&str; 3] = ["k1", "k2", "k3"];

/// What the facts of one world are drawn from.
struct Pool {
    customers: usize,
    campaigns: Vec<String>,
    partners: Vec<String>,
    codes: Vec<String>,
    taken: BTreeSet<(u8, Key)>,
}

impl Pool {
    fn of(plan: &Plan, rng: &mut StdRng) -> Self {
        let is_late_code = |partner: &str| {
            plan.world.enrollments.iter().any(|e| e.partner == partner && e.code.as_deref() == Some("LATE"))
        };
        Self {
            customers: rng.random_range(2..=CUSTOMERS.len()),
            campaigns: plan.world.campaigns.iter().map(|campaign| campaign.id.clone()).collect(),
            partners: plan.world.partners.iter().map(|p| p.id.clone()).filter(|id| !is_late_code(id)).collect(),
            codes: plan.world.enrollments.iter().filter_map(|enrollment| enrollment.code.clone()).collect(),
            taken: BTreeSet::new(),
        }
    }

    /// A natural key, new within its kind. Bytewise order differs from that of numbers and of letters.
    fn key(&mut self, rng: &mut StdRng, kind: u8) -> Key {
        loop {
            let external_id = match rng.random_range(0..8) {
                0 => (*["a", "B", "ü", "Z9", "é", "~"].choose(rng).expect("not empty")).to_owned(),
                _ => rng.random_range(1..=120).to_string(),
            };
            let key = ((*["shop", "pos"].choose(rng).expect("not empty")).to_owned(), external_id);
            if self.taken.insert((kind, key.clone())) {
                return key;
            }
        }
    }

    fn campaign(&self, rng: &mut StdRng) -> String {
        match rng.random_range(0..60) {
            0 => "nowhere".to_owned(),
            1..=30 => self.campaigns[0].clone(),
            _ => self.campaigns.choose(rng).expect("not empty").clone(),
        }
    }

    fn partner(&self, rng: &mut StdRng) -> String {
        match self.partners.choose(rng) {
            Some(partner) if !rng.random_ratio(1, 40) => partner.clone(),
            _ => "nobody".to_owned(),
        }
    }

    fn code(&self, rng: &mut StdRng) -> String {
        match self.codes.choose(rng) {
            Some(code) if !rng.random_ratio(1, 12) => code.clone(),
            _ => "NEVER".to_owned(),
        }
    }

    fn customer(&self, rng: &mut StdRng) -> String {
        CUSTOMERS[rng.random_range(0..self.customers)].to_owned()
    }
}

fn click(rng: &mut StdRng) -> String {
    (*CLICKS.choose(rng).expect("not empty")).to_owned()
}

/// From before most campaigns' starts to a day after the first delivery, which is as far ahead as a fact may be.
fn instant(rng: &mut StdRng) -> i64 {
    let latest = half_day(24);
    let jitter = if rng.random_ratio(1, 6) { rng.random_range(-1..=1) } else { 0 };
    (half_day(rng.random_range(5..=24)) + jitter).min(latest)
}

pub(super) fn facts(plan: &mut Plan, rng: &mut StdRng) {
    let mut pool = Pool::of(plan, rng);
    for _ in 0..rng.random_range(0..=30) {
        let touch = touch(&mut pool, rng);
        plan.world.touches.push(touch);
        let told = told(rng, FactRef::Touch(plan.world.touches.len() - 1));
        plan.facts.push(told);
    }
    for _ in 0..rng.random_range(4..=30) {
        let conversion = conversion(plan, &mut pool, rng);
        let mut told = told(rng, FactRef::Conversion(plan.world.conversions.len()));
        if plan.mode != Mode::Pure {
            beyond_the_reference(&mut told, &conversion, rng);
        }
        plan.world.conversions.push(conversion);
        plan.facts.push(told);
    }
    for _ in 0..rng.random_range(0..=24) {
        let refund = refund(plan, &mut pool, rng);
        let mut told = told(rng, FactRef::Refund(plan.world.refunds.len()));
        told.late = plan.mode != Mode::Twin && rng.random_ratio(1, 4);
        plan.world.refunds.push(refund);
        plan.facts.push(told);
    }
}

fn told(rng: &mut StdRng, fact: FactRef) -> Told {
    let naming = *[Naming::Id, Naming::Id, Naming::BareUuid, Naming::Reference].choose(rng).expect("not empty");
    Told { fact, naming, late: false, refunded_at: instant(rng), lines: Vec::new(), one_off_basis_points: None }
}

fn beyond_the_reference(told: &mut Told, conversion: &Conversion, rng: &mut StdRng) {
    if conversion.category.is_none() && conversion.amount_minor >= 2 && rng.random_ratio(1, 4) {
        let part = rng.random_range(1..conversion.amount_minor);
        told.lines = vec![(CATEGORIES[0], part), (CATEGORIES[1], conversion.amount_minor - part)];
    }
    told.one_off_basis_points = rng.random_ratio(1, 12).then(|| rng.random_range(0..=10_000));
}

fn touch(pool: &mut Pool, rng: &mut StdRng) -> Touch {
    Touch {
        key: pool.key(rng, 0),
        campaign: pool.campaign(rng),
        partner: pool.partner(rng),
        customer_ref: pool.customer(rng),
        click_id: rng.random_ratio(1, 3).then(|| click(rng)),
        occurred_at: instant(rng),
    }
}

fn conversion(plan: &Plan, pool: &mut Pool, rng: &mut StdRng) -> Conversion {
    let campaign = pool.campaign(rng);
    let own_currency = plan.world.campaign(&campaign).map_or("USD", |campaign| &campaign.currency);
    let currency = if rng.random_ratio(1, 15) { "GBP" } else { own_currency }.to_owned();
    let is_named = rng.random_ratio(3, 4);
    let mut conversion = Conversion {
        key: pool.key(rng, 1),
        kind: match rng.random_range(0..6) {
            0 => Kind::Lead,
            1 => Kind::Click,
            _ => Kind::Sale,
        },
        category: rng.random_ratio(1, 4).then(|| (*CATEGORIES.choose(rng).expect("not empty")).to_owned()),
        campaign: is_named.then_some(campaign),
        partner: rng.random_ratio(1, 5).then(|| pool.partner(rng)),
        code: rng.random_ratio(1, 4).then(|| pool.code(rng)),
        click_id: rng.random_ratio(1, 4).then(|| click(rng)),
        customer_ref: rng.random_ratio(5, 6).then(|| pool.customer(rng)),
        occurred_at: instant(rng),
        recorded_at: 0,
        amount_minor: *AMOUNTS.choose(rng).expect("not empty"),
        currency,
    };
    if rng.random_ratio(1, 2) {
        follow_a_touch(plan, &mut conversion, rng);
    }
    conversion
}

/// A customer who met a partner buys: at once, after some half days, or at the edge of the window.
fn follow_a_touch(plan: &Plan, conversion: &mut Conversion, rng: &mut StdRng) {
    let Some(touch) = plan.world.touches.choose(rng) else { return };
    let Some(campaign) = plan.world.campaign(&touch.campaign) else { return };
    let after = match rng.random_range(0..5) {
        0 => 0,
        1 => campaign.window_micros + rng.random_range(-1..=1),
        _ => rng.random_range(0..=4) * HALF_DAY + rng.random_range(-1..=1),
    };
    conversion.occurred_at = (touch.occurred_at + after).min(half_day(24));
    conversion.campaign = conversion.campaign.take().map(|_| touch.campaign.clone());
    conversion.currency.clone_from(&campaign.currency);
    if rng.random_ratio(1, 2) {
        conversion.partner = None;
        conversion.code = None;
    }
    if let Some(click_id) = touch.click_id.as_ref().filter(|_| rng.random_ratio(1, 2)) {
        conversion.click_id = Some(click_id.clone());
    } else {
        conversion.customer_ref = Some(touch.customer_ref.clone());
    }
}

fn refund(plan: &Plan, pool: &mut Pool, rng: &mut StdRng) -> Refund {
    let key = pool.key(rng, 2);
    let sale = plan.world.conversions.choose(rng).expect("at least four conversions");
    let sale_key = if rng.random_ratio(1, 30) { ("shop".to_owned(), "none".to_owned()) } else { sale.key.clone() };
    let amount_minor = match rng.random_range(0..12) {
        0..=2 => None,
        4 => Some(sale.amount_minor + 1),
        5 => Some(0),
        6 => Some(sale.amount_minor),
        _ => Some(rng.random_range(0..=sale.amount_minor)),
    };
    let currency = if rng.random_ratio(1, 20) { "CHF" } else { &sale.currency };
    Refund {
        conversion_source: (key.0 != sale_key.0 || rng.random_ratio(1, 2)).then_some(sale_key.0),
        key,
        conversion_external_id: sale_key.1,
        kind: match rng.random_range(0..8) {
            0 => RefundKind::Cancellation,
            1 | 2 => RefundKind::Chargeback,
            3 | 4 => RefundKind::ChargebackReversed,
            _ => RefundKind::Refund,
        },
        amount: amount_minor.map(|amount_minor| (amount_minor, currency.to_owned())),
        recorded_at: 0,
    }
}
