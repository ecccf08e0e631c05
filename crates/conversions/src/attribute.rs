//! An operator attributes a conversion: beyond all automatic rules, for good, but only to somebody who could earn.

use std::collections::BTreeSet;

use events::conversions::{ConversionState, Rule};
use kernel::{CampaignId, ConversionId, Fault, PartnerId, Reason, Result, problems as common};
use platform::{Tx, consumer};
use serde::Deserialize;

use crate::CONSUMER;
use crate::load::{Wanted, conversions_by_id, load};
use crate::model::book::{Book, UnknownReference};
use crate::model::conversion::{Conversion, Moment};
use crate::model::named::Named;
use crate::problems;
use crate::store::store;
use crate::views::{self, ConversionView};

/// Credits a partner with a conversion, whatever the rules said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// The partner; active and enrolled in the campaign when the conversion occurred.
    pub partner_id: PartnerId,
    /// The campaign; absent: the one that the conversion has.
    #[serde(default)]
    pub campaign_id: Option<CampaignId>,
    /// Why; kept with the conversion, not shown in events.
    pub reason: Reason,
}

impl Attribute {
    /// Attributes the conversion. Faults: `conversion_not_found`, `illegal_transition` when it is rejected,
    /// `not_creditable`.
    pub fn run(&self, tx: &mut Tx<'_>, id: ConversionId) -> Result<ConversionView> {
        let found = conversions_by_id(tx, &BTreeSet::from([id]))?.pop();
        let conversion = found.ok_or_else(|| views::not_found(id))?;
        if conversion.standing.state == ConversionState::Rejected {
            let detail = "a conversion that is rejected cannot attribute; allowed: nothing";
            return Err(Fault::new(&common::ILLEGAL_TRANSITION, detail));
        }
        let campaign_id = self.campaign(tx, &conversion)?;
        let standing = &conversion.standing;
        let already = (standing.rule, standing.campaign_id, standing.partner_id)
            == (Some(Rule::Operator), Some(campaign_id), Some(self.partner_id));
        if !already {
            let wanted = Wanted {
                conversions: BTreeSet::from([id]),
                parties: Some((campaign_id, self.partner_id)),
                ..Wanted::default()
            };
            let mut book = load(tx, &wanted, UnknownReference::Park)?;
            let moment = Moment { position: consumer::position(tx, CONSUMER)?, time: tx.now(), known_at: tx.now() };
            self.check(&book, &conversion, campaign_id, moment)?;
            book.attribute_by_operator(id, campaign_id, self.partner_id, &self.reason, moment);
            store(tx, &book)?;
        }
        views::one(tx, id)
    }

    /// The campaign: as said here, as decided, or as named by the fact.
    fn campaign(&self, tx: &Tx<'_>, conversion: &Conversion) -> Result<CampaignId> {
        let named = match &conversion.campaign {
            Some(Named::Id(id)) => Some(*id),
            Some(Named::Reference(_)) => {
                let wanted = Wanted { conversions: BTreeSet::from([conversion.id]), ..Wanted::default() };
                let book = load(tx, &wanted, UnknownReference::Park)?;
                conversion.campaign.as_ref().and_then(|name| Some(book.reference.decided_campaign(name).ok()?.0))
            }
            None => None,
        };
        self.campaign_id.or(conversion.standing.campaign_id).or(named).ok_or_else(|| {
            Fault::at(&problems::NOT_CREDITABLE, "/campaign_id", "the conversion has no campaign yet: name one")
        })
    }

    fn check(&self, book: &Book, conversion: &Conversion, campaign_id: CampaignId, moment: Moment) -> Result<()> {
        let at_campaign = |detail: String| Err(Fault::at(&problems::NOT_CREDITABLE, "/campaign_id", detail));
        let Ok((_, campaign)) = book.reference.decided_campaign(&Named::Id(campaign_id)) else {
            return at_campaign(format!("{campaign_id} is unknown or a draft"));
        };
        if let Some(refusal) = campaign.refusal_at(conversion.occurred_at) {
            return at_campaign(format!("{campaign_id} does not count at {}: {refusal}", conversion.occurred_at));
        }
        if campaign.currency != conversion.amount.currency() {
            return at_campaign(format!("the currency of {campaign_id} is {}", campaign.currency));
        }
        let bar = book.reference.bar(campaign_id, self.partner_id, conversion.occurred_at, moment.known_at, None);
        match bar {
            Some(bar) => {
                let detail = format!("{} at {}: {bar}", self.partner_id, conversion.occurred_at);
                Err(Fault::at(&problems::NOT_CREDITABLE, "/partner_id", detail))
            }
            None => Ok(()),
        }
    }
}
