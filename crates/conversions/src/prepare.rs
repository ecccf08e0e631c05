//! What can be done with a fact before the writer is asked: checks, the digest of its body, the JSON of its event. Pure,
//! and run by many request threads at once. It must not know the database.

use events::conversions::{CustomerKey, Recorded, RefundRecorded, TouchRecorded};
use kernel::{Currency, Duration, Event, Fault, Id, Key, Result, Timestamp, digest16, hex, problems as common};
use serde_json::Value;

use crate::customer_keys::CustomerKeys;
use crate::facts::{Fact, NewConversion, NewRefund, NewTouch};
use crate::problems;

/// A fact that is ready to be recorded.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) body: Body,
    /// Over the parsed body: the same content in another spelling is the same body.
    pub(crate) digest: [u8; 16],
    /// The event's JSON from behind the value of its first field, which is the fact's id.
    pub(crate) payload_tail: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Touch { fact: NewTouch, customer: [u8; 16] },
    Conversion(Box<ConversionBody>),
    Refund(NewRefund),
}

#[derive(Debug, Clone)]
pub(crate) struct ConversionBody {
    pub(crate) fact: NewConversion,
    pub(crate) customer: Option<[u8; 16]>,
    pub(crate) currency: Currency,
    pub(crate) named_campaign: Option<String>,
    pub(crate) named_partner: Option<String>,
    pub(crate) lines: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) terms: Option<String>,
}

impl Prepared {
    /// `touch`, `conversion` or `refund`.
    pub const fn kind(&self) -> &'static str {
        match self.body {
            Body::Touch { .. } => "touch",
            Body::Conversion(_) => "conversion",
            Body::Refund(_) => "refund",
        }
    }

    /// The fact's natural key within its kind: (source, external id).
    pub fn natural_key(&self) -> (&str, &str) {
        match &self.body {
            Body::Touch { fact, .. } => (fact.source.as_str(), fact.external_id.as_str()),
            Body::Conversion(body) => (body.fact.source.as_str(), body.fact.external_id.as_str()),
            Body::Refund(fact) => (fact.source.as_str(), fact.external_id.as_str()),
        }
    }
}

const MOST_LINES: usize = 500;
const MOST_METADATA_BYTES: usize = 16_384;
/// Clocks differ, and a day's order may be sent with its date only.
const AHEAD: Duration = Duration::from_secs(86_400);

/// Checks a fact and makes it ready. Faults: `occurred_in_future`, `lines_do_not_sum`, `invalid`.
pub fn prepare(fact: Fact, keys: &CustomerKeys, now: Timestamp) -> Result<Prepared> {
    let occurred_at = match &fact {
        Fact::Touch(fact) => fact.occurred_at,
        Fact::Conversion(fact) => fact.occurred_at,
        Fact::Refund(fact) => fact.occurred_at,
    };
    if occurred_at > now.plus(AHEAD) {
        let detail = format!("{occurred_at} is more than a day from now ({now})");
        return Err(Fault::at(&problems::OCCURRED_IN_FUTURE, "/occurred_at", detail));
    }
    match fact {
        Fact::Touch(fact) => Ok(touch(fact, keys)),
        Fact::Conversion(fact) => conversion(fact, keys),
        Fact::Refund(fact) => Ok(refund(fact)),
    }
}

fn touch(fact: NewTouch, keys: &CustomerKeys) -> Prepared {
    let customer = keys.key(fact.customer_ref.as_str());
    let event = TouchRecorded {
        touch_id: Id::from_bytes([0; 16]),
        source: fact.source.clone(),
        external_id: fact.external_id.clone(),
        campaign_id: fact.campaign_id.to_string(),
        partner_id: fact.partner_id.to_string(),
        customer: hex(&customer),
        occurred_at: fact.occurred_at,
        click_id: fact.click_id.clone(),
    };
    let digest = digest16(&[
        fact.source.as_str().as_bytes(),
        fact.external_id.as_str().as_bytes(),
        event.campaign_id.as_bytes(),
        event.partner_id.as_bytes(),
        &customer,
        fact.kind.as_str().as_bytes(),
        &fact.occurred_at.as_micros().to_be_bytes(),
        bytes(fact.click_id.as_ref().map(Key::as_str)),
    ]);
    Prepared { digest, payload_tail: tail(&event, "touch_id"), body: Body::Touch { fact, customer } }
}

fn conversion(fact: NewConversion, keys: &CustomerKeys) -> Result<Prepared> {
    check_lines(&fact)?;
    if let Some(terms) = &fact.terms {
        terms.check("/terms")?;
    }
    let json = |text: serde_json::Result<String>| text.map_err(Fault::internal);
    let metadata = fact.metadata.as_ref().map(serde_json::to_string).map(json).transpose()?;
    if metadata.as_ref().is_some_and(|text| text.len() > MOST_METADATA_BYTES) {
        let detail = format!("at most {MOST_METADATA_BYTES} bytes of JSON are kept");
        return Err(Fault::at(&common::INVALID, "/metadata", detail));
    }
    let lines = (!fact.lines.is_empty()).then(|| json(serde_json::to_string(&fact.lines))).transpose()?;
    let terms = fact.terms.as_ref().map(serde_json::to_string).map(json).transpose()?;
    let customer = fact.customer_ref.as_ref().map(|customer_ref| keys.key(customer_ref.as_str()));
    let event = Recorded {
        conversion_id: Id::from_bytes([0; 16]),
        source: fact.source.clone(),
        external_id: fact.external_id.clone(),
        kind: fact.kind,
        campaign_id: fact.campaign_id.as_ref().map(ToString::to_string),
        partner_id: fact.partner_id.as_ref().map(ToString::to_string),
        click_id: fact.click_id.clone(),
        code: fact.code.clone(),
        customer: customer.map(|key: [u8; 16]| -> CustomerKey { hex(&key) }),
        occurred_at: fact.occurred_at,
        amount: fact.amount,
        lines: fact.lines.clone(),
    };
    let payload_tail = tail(&event, "conversion_id");
    let (named_campaign, named_partner) = (event.campaign_id, event.partner_id);
    let mut canonical_metadata = String::new();
    if let Some(metadata) = &fact.metadata {
        canonical_object(metadata, &mut canonical_metadata);
    }
    let digest = digest16(&[
        fact.source.as_str().as_bytes(),
        fact.external_id.as_str().as_bytes(),
        fact.kind.as_str().as_bytes(),
        bytes(named_campaign.as_deref()),
        bytes(named_partner.as_deref()),
        bytes(fact.click_id.as_ref().map(Key::as_str)),
        bytes(fact.code.as_ref().map(Key::as_str)),
        customer.as_ref().map_or(&[], |key| key),
        &fact.occurred_at.as_micros().to_be_bytes(),
        &fact.amount.minor().to_be_bytes(),
        fact.amount.currency().as_str().as_bytes(),
        bytes(lines.as_deref()),
        canonical_metadata.as_bytes(),
        bytes(terms.as_deref()),
    ]);
    let body = ConversionBody {
        customer,
        currency: fact.amount.currency(),
        named_campaign,
        named_partner,
        lines,
        metadata,
        terms,
        fact,
    };
    Ok(Prepared { digest, payload_tail, body: Body::Conversion(Box::new(body)) })
}

fn check_lines(fact: &NewConversion) -> Result<()> {
    if fact.lines.is_empty() {
        return Ok(());
    }
    if fact.lines.len() > MOST_LINES {
        return Err(Fault::at(&common::INVALID, "/lines", format!("at most {MOST_LINES} lines are possible")));
    }
    if let Some(index) = fact.lines.iter().position(|line| line.amount_minor < 0) {
        return Err(Fault::at(
            &common::AMOUNT_NEGATIVE,
            format!("/lines/{index}/amount_minor"),
            "zero or more is needed",
        ));
    }
    let sum: i128 = fact.lines.iter().map(|line| i128::from(line.amount_minor)).sum();
    if sum != i128::from(fact.amount.minor()) {
        let detail = format!("the lines add up to {sum}, the amount is {}", fact.amount.minor());
        return Err(Fault::at(&problems::LINES_DO_NOT_SUM, "/lines", detail));
    }
    Ok(())
}

fn refund(fact: NewRefund) -> Prepared {
    let event = RefundRecorded {
        refund_id: Id::from_bytes([0; 16]),
        source: fact.source.clone(),
        external_id: fact.external_id.clone(),
        conversion_source: fact.conversion_source().clone(),
        conversion_external_id: fact.conversion_external_id.clone(),
        kind: fact.kind,
        amount: fact.amount,
        occurred_at: fact.occurred_at,
    };
    let amount = fact.amount.map(|amount| (amount.minor().to_be_bytes(), amount.currency()));
    let digest = digest16(&[
        fact.source.as_str().as_bytes(),
        fact.external_id.as_str().as_bytes(),
        event.conversion_source.as_str().as_bytes(),
        fact.conversion_external_id.as_str().as_bytes(),
        fact.kind.as_str().as_bytes(),
        &fact.occurred_at.as_micros().to_be_bytes(),
        amount.as_ref().map_or(&[], |(minor, _)| minor),
        amount.as_ref().map_or(&[], |(_, currency)| currency.as_str().as_bytes()),
        fact.reason.as_str().as_bytes(),
    ]);
    let payload_tail = tail(&event, "refund_id");
    Prepared { digest, payload_tail, body: Body::Refund(fact) }
}

/// What is absent is empty: no text of a fact is.
fn bytes(text: Option<&str>) -> &[u8] {
    text.map_or(&[], str::as_bytes)
}

/// The event's JSON from behind its id, which is known only when the fact is recorded.
fn tail<E: Event>(event: &E, id_field: &str) -> String {
    let payload = serde_json::to_string(event).expect("an event is plain data and always serialises");
    let head = format!("{{\"{id_field}\":\"{}\"", event.subject());
    payload.strip_prefix(&head).expect("the id is the event's first field").to_owned()
}

/// JSON whose objects are sorted by name: two spellings of one content are equal.
fn canonical_object(object: &serde_json::Map<String, Value>, text: &mut String) {
    let mut members: Vec<(&String, &Value)> = object.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    text.push('{');
    for (name, value) in members {
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        canonical(value, text);
        text.push(',');
    }
    text.push('}');
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => canonical_object(object, text),
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}
