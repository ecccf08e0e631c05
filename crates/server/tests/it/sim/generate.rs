//! Random plans: campaigns, partners and enrolments with their commands. Ranges are small on purpose.

use campaigns::CampaignAction;
use partners::PartnerAction;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::generate_facts::facts;
use super::plan::{AFTER, Command, DAY, HALF_DAY, Mode, Plan, START};
use super::reference::{Campaign, Component, Enrollment, Kind, Model, Partner, PartnerState, Rate, Span, Terms, World};

pub(super) const CATEGORIES: [&str; 2] = ["books", "music"];

/// The world of a seed. The same seed gives the same world in every mode but for what the mode adds.
pub(super) fn plan(seed: u64, mode: Mode) -> Plan {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut plan = Plan {
        mode,
        world: World::default(),
        setup: Vec::new(),
        late: Vec::new(),
        after: Vec::new(),
        facts: Vec::new(),
        budgets: Vec::new(),
        provision: mode != Mode::Pure && rng.random_ratio(1, 4),
    };
    for index in 0..rng.random_range(1..=4) {
        campaign(&mut plan, rng, index);
    }
    for index in 0..rng.random_range(1..=6) {
        partner(&mut plan, rng, index);
    }
    enrollments(&mut plan, rng);
    late_code(&mut plan, rng);
    campaign_lives(&mut plan, rng);
    facts(&mut plan, rng);
    plan.setup.sort_by_key(|(at, _)| *at);
    plan.after.sort_by_key(|(at, _)| *at);
    plan
}

pub(super) fn half_day(number: i64) -> i64 {
    START + number * HALF_DAY
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    *from.choose(rng).expect("nothing to pick from")
}

fn campaign(plan: &mut Plan, rng: &mut StdRng, index: usize) {
    let starts_at = half_day(rng.random_range(3..=8));
    let terms = (1..=rng.random_range(1..=3)).map(|version| terms(rng, version, starts_at)).collect();
    plan.world.campaigns.push(Campaign {
        id: format!("c{index}"),
        draft: index > 0 && rng.random_ratio(1, 12),
        currency: pick(rng, &["USD", "USD", "EUR", "JPY"]).to_owned(),
        starts_at,
        ends_at: rng.random_ratio(1, 4).then(|| half_day(rng.random_range(14..=24))),
        closed_at: None,
        pauses: Vec::new(),
        model: pick(rng, &[Model::Last, Model::First]),
        window_micros: rng.random_range(1..=6) * DAY,
        terms,
    });
    let budget = (plan.mode == Mode::Commands && rng.random_ratio(1, 3)).then(|| rng.random_range(0..2_000));
    plan.budgets.push(budget);
}

fn terms(rng: &mut StdRng, version: i64, starts_at: i64) -> Terms {
    let from_the_start = version == 1 || rng.random_ratio(1, 5);
    Terms {
        version,
        valid_from: if from_the_start { starts_at } else { half_day(rng.random_range(6..=22)) },
        components: (0..rng.random_range(1..=3)).map(|_| component(rng)).collect(),
        cap_minor: rng.random_ratio(1, 3).then(|| pick(rng, &[0, 3, 50, 100, 160, 200])),
        hold_micros: rng.random_range(2..=5) * DAY,
        auto_approve_up_to_minor: pick(rng, &[0, 1, 50, 100, 150, 100_000]),
    }
}

fn component(rng: &mut StdRng) -> Component {
    let rate = match rng.random_range(0..6) {
        0 => Rate::FlatMinor(pick(rng, &[0, 1, 25, 100])),
        1 | 2 => Rate::FirstPurchaseBonusMinor(pick(rng, &[1, 50, 150])),
        _ => Rate::PercentBasisPoints(pick(rng, &[0, 333, 500, 800, 1_250, 1_250, 5_000, 10_000])),
    };
    let kinds = match rng.random_range(0..6) {
        0 => vec![Kind::Sale],
        1 => vec![Kind::Lead, Kind::Click],
        _ => Vec::new(),
    };
    Component {
        rate,
        kinds,
        category: rng.random_ratio(1, 8).then(|| pick(rng, &CATEGORIES).to_owned()),
        minimum_minor: rng.random_ratio(1, 4).then(|| pick(rng, &[0, 1, 10, 100, 1_000])),
    }
}

/// Creation comes first; life begins when terms are published and partners enrolled.
fn campaign_lives(plan: &mut Plan, rng: &mut StdRng) {
    for index in 0..plan.world.campaigns.len() {
        let campaign = &mut plan.world.campaigns[index];
        let enrolls_late = |command: &Command| match command {
            Command::Enroll(number) => plan.world.enrollments[*number].campaign == campaign.id,
            _ => false,
        };
        // Nobody can be enrolled in a campaign that is over.
        let may_close = !plan.late.iter().flatten().any(enrolls_late);
        let life = |action| Command::Campaign(index, action);
        plan.setup.push((START, Command::Create(index)));
        plan.setup.extend((1..campaign.terms.len()).map(|terms| (START, Command::Publish { campaign: index, terms })));
        if campaign.draft {
            continue;
        }
        if campaign.ends_at.is_none() && rng.random_ratio(1, 8) {
            plan.late.push(vec![life(CampaignAction::Activate)]);
            continue;
        }
        plan.setup.push((half_day(rng.random_range(1..=6)), life(CampaignAction::Activate)));
        let pause = rng.random_ratio(1, 3).then(|| rng.random_range(7..=16));
        let resume = pause.filter(|_| rng.random_ratio(3, 4)).map(|from| from + rng.random_range(1..=4));
        if let Some(from) = pause {
            campaign.pauses.push(Span { from: half_day(from), to: resume.map(half_day) });
            plan.setup.push((half_day(from), life(CampaignAction::Pause)));
            plan.setup.extend(resume.map(|to| (half_day(to), life(CampaignAction::Resume))));
        }
        let is_running = pause.is_some() == resume.is_some() && campaign.ends_at.is_none();
        if is_running && may_close && rng.random_ratio(1, 6) {
            let closed_at = half_day(rng.random_range(20..=22));
            campaign.closed_at = Some(closed_at);
            let action = pick(rng, &[CampaignAction::Complete, CampaignAction::Cancel]);
            plan.setup.push((closed_at, life(action)));
        }
    }
    // Stable by time later on: whatever is created at the start is created before it is used.
    plan.setup.sort_by_key(|(_, command)| match command {
        Command::Create(_) | Command::Apply(_) => 0,
        Command::Publish { .. } => 1,
        Command::Enroll(_) => 2,
        _ => 3,
    });
}

fn partner(plan: &mut Plan, rng: &mut StdRng, index: usize) {
    let mut partner = Partner {
        id: format!("p{index}"),
        state: PartnerState::Activated,
        suspensions: Vec::new(),
        terminated_at: None,
    };
    let life = |action| Command::Partner(index, action);
    let chance = rng.random_range(0..20);
    if chance != 3 {
        plan.setup.push((START, Command::Apply(index)));
    }
    match chance {
        0 => partner.state = PartnerState::Applied,
        1 => {
            partner.state = PartnerState::Rejected;
            match rng.random_ratio(1, 2) {
                true => plan.late.push(vec![life(PartnerAction::Reject)]),
                false => plan.setup.push((half_day(rng.random_range(1..=22)), life(PartnerAction::Reject))),
            }
        }
        2 => plan.late.push(vec![life(PartnerAction::Activate)]),
        // Named by facts before it exists; its enrolments are put between.
        3 => plan.late.push(vec![Command::Apply(index), life(PartnerAction::Activate)]),
        _ => {
            plan.setup.push((half_day(rng.random_range(1..=8)), life(PartnerAction::Activate)));
            interruptions(plan, rng, &mut partner, index);
        }
    }
    plan.world.partners.push(partner);
}

fn interruptions(plan: &mut Plan, rng: &mut StdRng, partner: &mut Partner, index: usize) {
    let life = |action| Command::Partner(index, action);
    let mut open = false;
    if rng.random_ratio(1, 3) {
        let from = rng.random_range(9..=18);
        let to = rng.random_ratio(2, 3).then(|| from + rng.random_range(1..=4));
        plan.setup.push((half_day(from), life(PartnerAction::Suspend)));
        plan.setup.extend(to.map(|to| (half_day(to), life(PartnerAction::Reinstate))));
        partner.suspensions.push(Span { from: half_day(from), to: to.map(half_day) });
        open = to.is_none();
    }
    if rng.random_ratio(1, 8) {
        let at = half_day(rng.random_range(19..=22));
        let still = partner.suspensions.last().is_some_and(|span| span.to.is_some_and(|to| to >= at));
        if !still {
            plan.setup.push((at, life(PartnerAction::Terminate)));
            partner.terminated_at = Some(at);
            open = false;
        }
    }
    if open && rng.random_ratio(2, 3) {
        let at = AFTER + rng.random_range(1..=4) * HALF_DAY;
        if rng.random_ratio(1, 2) {
            plan.after.push((at, life(PartnerAction::Reinstate)));
            partner.suspensions.last_mut().expect("it is open").to = Some(at);
        } else {
            plan.after.push((at, life(PartnerAction::Terminate)));
            partner.terminated_at = Some(at);
        }
    }
}

fn enrollments(plan: &mut Plan, rng: &mut StdRng) {
    for campaign in 0..plan.world.campaigns.len() {
        for partner in 0..plan.world.partners.len() {
            if rng.random_ratio(1, 6) {
                continue;
            }
            let is_created_late =
                plan.late.iter().position(|chain| matches!(chain[0], Command::Apply(index) if index == partner));
            // A code that appears for a campaign that stays a draft: whether what was decided before waits on, once its
            // automatic time is over, the rules leave open; no money hangs on it.
            if is_created_late.is_some() && plan.world.campaigns[campaign].draft {
                continue;
            }
            let starts = (plan.world.campaigns[campaign].starts_at - START) / HALF_DAY;
            let from = rng.random_ratio(1, 5).then(|| rng.random_range(4..=12));
            let to = rng.random_ratio(1, 5).then(|| from.unwrap_or(starts) + rng.random_range(1..=10));
            let (from, to) = if is_created_late.is_some() { (None, None) } else { (from, to) };
            let first = enroll(plan, rng, (campaign, partner), from, to);
            match is_created_late {
                Some(chain) => plan.late[chain].insert(1, first),
                None => plan.setup.push((START, first)),
            }
            if let Some(to) = to.filter(|_| rng.random_ratio(1, 2)) {
                let from = to + rng.random_range(0..=2);
                let again = enroll(plan, rng, (campaign, partner), Some(from), None);
                plan.setup.push((START, again));
            }
        }
    }
}

fn enroll(
    plan: &mut Plan,
    rng: &mut StdRng,
    (campaign, partner): (usize, usize),
    from: Option<i64>,
    to: Option<i64>,
) -> Command {
    let number = plan.world.enrollments.len();
    plan.world.enrollments.push(Enrollment {
        partner: plan.world.partners[partner].id.clone(),
        campaign: plan.world.campaigns[campaign].id.clone(),
        code: rng.random_ratio(3, 4).then(|| format!("K{number}")),
        from: from.map(half_day),
        to: to.map(half_day),
    });
    Command::Enroll(number)
}

/// A partner whom facts name by a code only, and the code appears while facts are delivered.
fn late_code(plan: &mut Plan, rng: &mut StdRng) {
    if rng.random_ratio(1, 2) {
        return;
    }
    let index = plan.world.partners.len();
    plan.world.partners.push(Partner {
        id: format!("p{index}"),
        state: PartnerState::Activated,
        suspensions: Vec::new(),
        terminated_at: None,
    });
    plan.setup.push((START, Command::Apply(index)));
    plan.setup.push((half_day(1), Command::Partner(index, PartnerAction::Activate)));
    let drawn = rng.random_range(0..plan.world.campaigns.len());
    let campaign = if plan.world.campaigns[drawn].draft { 0 } else { drawn };
    let enroll = enroll(plan, rng, (campaign, index), None, None);
    plan.world.enrollments.last_mut().expect("just added").code = Some("LATE".to_owned());
    plan.late.push(vec![enroll]);
}
