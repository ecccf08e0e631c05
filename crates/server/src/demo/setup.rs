//! The demo's world: twelve partners, one campaign with two versions of terms, everyone enrolled with a code. Each piece
//! is found by its external reference first, so that a second run adds nothing.

use campaigns::{CampaignAction, CampaignFilter, Enroll, EnrollmentFilter, PublishTerms};
use events::campaigns::{AttributionModel, AttributionPolicy, CampaignState, Component, Conditions, Terms};
use events::partners::{PartnerKind, PartnerState};
use kernel::{BasisPoints, CampaignId, Currency, Fault, Key, Label, PartnerId, Reference, Result, Timestamp};
use partners::{Apply, PartnerAction, PartnerFilter};
use platform::{Db, Lane, Page};

use super::plan::PARTNERS;

/// Who does what in the demo; a payout needs two people.
pub(super) const OPERATOR: &str = "demo-operator";
/// Approves what the operator created.
pub(super) const CONTROLLER: &str = "demo-controller";

/// What the deliveries name.
pub(super) struct World {
    /// The campaign.
    pub(super) campaign_id: CampaignId,
    /// The partners, number 1 first.
    pub(super) partners: Vec<PartnerId>,
}

impl World {
    /// The partner with this number.
    pub(super) fn partner(&self, number: u32) -> PartnerId {
        self.partners[number as usize - 1]
    }
}

/// The code of the partner with this number.
pub(super) fn code(number: u32) -> Key {
    key(&format!("CDNOW-{number:02}"))
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text).expect("the demo's keys are valid")
}

fn reference(id: &str) -> Reference {
    Reference { system: key("demo"), id: key(id) }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("the demo's instants are valid")
}

/// Finds or creates everything.
pub(super) fn run(db: &Db) -> Result<World> {
    let mut partners = Vec::new();
    for number in 1..=PARTNERS {
        partners.push(partner(db, number)?);
    }
    let campaign_id = campaign(db)?;
    for (number, &partner_id) in (1..).zip(&partners) {
        enroll(db, campaign_id, partner_id, number)?;
    }
    db.write("demo", Lane::Front, OPERATOR, |tx| {
        let campaign = campaigns::views::one(tx, campaign_id)?;
        if campaign.state == CampaignState::Draft {
            campaigns::change(tx, campaign_id, CampaignAction::Activate, None)?;
        }
        Ok(())
    })?;
    Ok(World { campaign_id, partners })
}

fn partner(db: &Db, number: u32) -> Result<PartnerId> {
    let reference = reference(&format!("partner-{number}"));
    let filter = PartnerFilter { external_ref: Some(reference.clone()), ..PartnerFilter::default() };
    db.write("demo", Lane::Front, OPERATOR, |tx| {
        let found = partners::views::list(tx, &filter, &Page::first(1))?.items.pop();
        let partner = match found {
            Some(partner) => partner,
            None => Apply {
                kind: PartnerKind::Affiliate,
                name: Label::new(format!("Partner {number}")).map_err(Fault::internal)?,
                email: None,
                country: None,
                external_refs: vec![reference.clone()],
                metadata: None,
            }
            .run(tx)?,
        };
        if partner.state == PartnerState::Applied {
            partners::change(tx, partner.id, PartnerAction::Activate, None)?;
        }
        Ok(partner.id)
    })
}

fn percent(basis_points: u32) -> Component {
    let basis_points = BasisPoints::new(basis_points).expect("the demo's shares are valid");
    Component::Percent { basis_points, conditions: Conditions::default() }
}

/// 8 % and a bonus for the first purchase; from July 1997 on 6 % and none.
fn terms() -> (Terms, PublishTerms) {
    let bonus = Component::FirstPurchaseBonus {
        amount_minor: 150,
        conditions: Conditions { minimum_amount_minor: Some(1_000), ..Conditions::default() },
    };
    let with =
        |components| Terms { components, cap_minor: Some(2_500), hold_days: 30, auto_approve_up_to_minor: Some(1_000) };
    let second = PublishTerms { valid_from: time("1997-07-01T00:00:00Z"), terms: with(vec![percent(600)]) };
    (with(vec![percent(800), bonus]), second)
}

fn campaign(db: &Db) -> Result<CampaignId> {
    let reference = reference("cdnow");
    let filter = CampaignFilter { external_ref: Some(reference.clone()), ..CampaignFilter::default() };
    db.write("demo", Lane::Front, OPERATOR, |tx| {
        if let Some(found) = campaigns::views::list(tx, &filter, &Page::first(1))?.items.pop() {
            return Ok(found.id);
        }
        let (first, second) = terms();
        let campaign = campaigns::Create {
            name: Label::new("CDNOW").map_err(Fault::internal)?,
            kind: None,
            currency: Currency::USD,
            starts_at: time("1996-12-01T00:00:00Z"),
            ends_at: None,
            budget: None,
            attribution: AttributionPolicy { model: AttributionModel::LastTouch, window_days: 400 },
            terms: first,
            owner_partner_id: None,
            tags: Vec::new(),
            external_refs: vec![reference.clone()],
            metadata: None,
        }
        .run(tx)?;
        second.run(tx, campaign.id)?;
        Ok(campaign.id)
    })
}

fn enroll(db: &Db, campaign_id: CampaignId, partner_id: PartnerId, number: u32) -> Result<()> {
    let filter = EnrollmentFilter { partner_id: Some(partner_id), ..EnrollmentFilter::default() };
    db.write("demo", Lane::Front, OPERATOR, |tx| {
        if campaigns::views::enrollments(tx, campaign_id, &filter, &Page::first(1))?.items.is_empty() {
            Enroll { partner_id, code: Some(code(number)), from: None, to: None }.run(tx, campaign_id)?;
        }
        Ok(())
    })
}
