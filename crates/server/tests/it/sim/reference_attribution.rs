//! The reference model's attribution: R1 (parked), R3 (who may earn), R4 (precedence). Nothing about amounts.

use super::reference::{
    Campaign, Conversion, Decision, Enrollment, Matched, Model, Partner, PartnerState, Touch, World,
};

pub(super) struct Attribution<'w> {
    /// The campaign that the conversion belongs to; none when parked or when nothing resolved it.
    pub(super) campaign: Option<&'w Campaign>,
    pub(super) decision: Decision,
}

/// Decides one conversion over all touches of the world.
pub(super) fn attribute<'w>(world: &'w World, conversion: &Conversion) -> Attribution<'w> {
    let without_campaign = |decision| Attribution { campaign: None, decision };
    // R1, R3: what is named must be known and decided, before anything else is looked at.
    if conversion.campaign.as_ref().is_some_and(|id| world.campaign(id).is_none()) {
        return without_campaign(Decision::Parked);
    }
    if conversion.partner.as_ref().is_some_and(|id| !is_decided(world.partner(id))) {
        return without_campaign(Decision::Parked);
    }
    let Some(campaign) = resolve_campaign(world, conversion) else {
        return without_campaign(Decision::Unattributed);
    };
    if campaign.draft {
        return without_campaign(Decision::Parked);
    }
    let refusal = refusal(campaign, conversion.occurred_at)
        .or_else(|| (conversion.currency != campaign.currency).then_some("currency_mismatch"));
    let decision = match refusal {
        Some(reason) => Decision::Rejected(reason),
        None => first_that_may_earn(world, campaign, conversion),
    };
    let campaign = (decision != Decision::Parked).then_some(campaign);
    Attribution { campaign, decision }
}

/// The campaign is resolved first; from there on all is as though it had been named.
///
/// A named campaign is it. Without one: the campaign of the known code, else that of the latest matching touch with the
/// click id, else that of the customer's latest matching touch; each touch is measured with its own campaign's window.
/// The latest whatever the campaigns' models are, since a model orders the touches of one campaign only.
fn resolve_campaign<'w>(world: &'w World, conversion: &Conversion) -> Option<&'w Campaign> {
    if let Some(id) = &conversion.campaign {
        return world.campaign(id);
    }
    if let Some(enrollment) = enrollment_with_code(world, conversion) {
        return world.campaign(&enrollment.campaign);
    }
    let latest = |by: Matched| {
        let mut touches: Vec<&Touch> =
            world.campaigns.iter().flat_map(|campaign| matching_touches(world, campaign, conversion, by)).collect();
        sort(&mut touches, Model::Last);
        touches.first().and_then(|touch| world.campaign(&touch.campaign))
    };
    latest(Matched::ClickId).or_else(|| latest(Matched::Touch))
}

/// R3: why a fact at `t` does not count for the campaign. The dates are asked before the pauses.
fn refusal(campaign: &Campaign, t: i64) -> Option<&'static str> {
    let ended = [campaign.ends_at, campaign.closed_at].into_iter().flatten().any(|end| end <= t);
    if t < campaign.starts_at || ended {
        Some("outside_campaign")
    } else if campaign.pauses.iter().any(|pause| pause.contains(t)) {
        Some("campaign_paused")
    } else {
        None
    }
}

/// R4: explicit partner, code, click id, the customer's touches; R3: whoever may not earn at the conversion's event time
/// loses, and the next is asked, also the next touch. A code whose partner is still applied parks the conversion when its
/// turn comes.
fn first_that_may_earn(world: &World, campaign: &Campaign, conversion: &Conversion) -> Decision {
    let t = conversion.occurred_at;
    let attributed = |partner: &str, by| Decision::Attributed { partner: partner.to_owned(), by };
    if let Some(partner) = &conversion.partner
        && is_active(world.partner(partner), t)
        && is_enrolled(world, campaign, partner, t)
    {
        return attributed(partner, Matched::Partner);
    }
    if let Some(enrollment) = enrollment_with_code(world, conversion)
        && enrollment.campaign == campaign.id
    {
        let partner = world.partner(&enrollment.partner);
        if !is_decided(partner) {
            return Decision::Parked;
        }
        // The code belongs to its own enrolment: another one of the same partner does not revive it.
        if is_active(partner, t) && covers(enrollment, t) {
            return attributed(&enrollment.partner, Matched::Code);
        }
    }
    for by in [Matched::ClickId, Matched::Touch] {
        for touch in matching_touches(world, campaign, conversion, by) {
            if is_active(world.partner(&touch.partner), t) && is_enrolled(world, campaign, &touch.partner, t) {
                return attributed(&touch.partner, by);
            }
        }
    }
    Decision::Unattributed
}

/// The campaign's touches that the conversion matches by its click id or by its customer, in the order they are asked.
fn matching_touches<'w>(world: &'w World, campaign: &Campaign, conversion: &Conversion, by: Matched) -> Vec<&'w Touch> {
    let mut touches: Vec<&Touch> = world
        .touches
        .iter()
        .filter(|touch| touch.campaign == campaign.id && touch_counts(world, campaign, touch))
        .filter(|touch| match by {
            Matched::ClickId => conversion.click_id.is_some() && touch.click_id == conversion.click_id,
            _ => conversion.customer_ref.as_deref() == Some(&touch.customer_ref),
        })
        // R4: 0 ≤ conversion − touch ≤ window, both ends included, click ids too.
        .filter(|touch| (0..=campaign.window_micros).contains(&(conversion.occurred_at - touch.occurred_at)))
        .collect();
    sort(&mut touches, campaign.model);
    touches
}

/// R1, R3: a touch is a fact too. It is parked while its campaign is a draft or its partner unknown or applied, and it
/// does not count when it occurred outside the campaign's dates or in its pause.
fn touch_counts(world: &World, campaign: &Campaign, touch: &Touch) -> bool {
    !campaign.draft && is_decided(world.partner(&touch.partner)) && refusal(campaign, touch.occurred_at).is_none()
}

/// Latest or earliest first. R4, ties: at the same instant the bytewise smallest (source, external_id) goes first, under
/// both models.
fn sort(touches: &mut [&Touch], model: Model) {
    touches.sort_by(|a, b| {
        let by_time = match model {
            Model::Last => b.occurred_at.cmp(&a.occurred_at),
            Model::First => a.occurred_at.cmp(&b.occurred_at),
        };
        by_time.then_with(|| a.key.cmp(&b.key))
    });
}

fn enrollment_with_code<'w>(world: &'w World, conversion: &Conversion) -> Option<&'w Enrollment> {
    world.enrollments.iter().find(|enrollment| enrollment.code.is_some() && enrollment.code == conversion.code)
}

fn is_enrolled(world: &World, campaign: &Campaign, partner: &str, t: i64) -> bool {
    world
        .enrollments
        .iter()
        .any(|enrollment| enrollment.partner == partner && enrollment.campaign == campaign.id && covers(enrollment, t))
}

/// R3: without `from` the enrolment reaches back to the campaign's start, before which nothing counts anyway.
fn covers(enrollment: &Enrollment, t: i64) -> bool {
    enrollment.from.is_none_or(|from| from <= t) && enrollment.to.is_none_or(|to| t < to)
}

/// Known, and its application is decided either way.
fn is_decided(partner: Option<&Partner>) -> bool {
    partner.is_some_and(|partner| partner.state != PartnerState::Applied)
}

/// R3: activation reaches back; suspension and termination count from their instant.
fn is_active(partner: Option<&Partner>, t: i64) -> bool {
    partner.is_some_and(|partner| {
        partner.state == PartnerState::Activated
            && !partner.suspensions.iter().any(|suspension| suspension.contains(t))
            && partner.terminated_at.is_none_or(|terminated_at| t < terminated_at)
    })
}
