//! A client that sends a mixture of facts and commands, remembers what it sent, and never sends anything a second
//! time with another body.

use super::journal::Journal;
use crate::load::Traffic;
use crate::load::connection::{Reply, render};
use crate::load::control::{Answer, Control};
use crate::load::random::Random;
use crate::load::scene::{self, Scene};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// Where the facts come from, by their own words.
const SOURCE: &str = "chaos";
const PER_BULK: u64 = 50;
/// Acknowledged requests that are kept to be sent again at the end.
const KEPT: usize = 200;

/// What a request creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Sale,
    Refund,
    Touch,
    Partner,
    Payout,
    /// A change of a payout's state.
    Command,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Sale, Self::Refund, Self::Touch, Self::Partner, Self::Payout, Self::Command];

    /// As the journal writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Refund => "refund",
            Self::Touch => "touch",
            Self::Partner => "partner",
            Self::Payout => "payout",
            Self::Command => "command",
        }
    }

    /// As the journal reads it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A request with all that is needed to send it again.
#[derive(Clone, Debug)]
pub(super) struct Request {
    kind: Kind,
    /// Natural keys, one per item.
    keys: Vec<String>,
    path: String,
    headers: String,
    body: String,
    /// When it was sent last.
    sent: Option<Instant>,
}

/// A refund: the sale's key and the amount in cents.
pub(super) type Refund = (String, i64);

/// The client; what it knows survives every restart of the server.
#[derive(Debug)]
pub(super) struct Client {
    scene: Scene,
    pub(super) journal: Journal,
    random: Random,
    next: u64,
    /// Cents by key, of all sales that were sent.
    pub(super) sales: BTreeMap<String, i64>,
    pub(super) refunds: BTreeMap<String, Refund>,
    /// Acknowledged sales without a refund.
    refundable: Vec<String>,
    /// Payouts that wait for `approve` or `submit`.
    steps: Vec<(String, &'static str)>,
    /// The cut-off of payouts: when this server was reached first.
    cut_off: String,
    under_way: BTreeMap<u64, Request>,
    /// Requests without an answer, or with one that promises nothing.
    pub(super) unknown: Vec<Request>,
    acknowledged: Vec<Request>,
    /// Answers that promise nothing: 429 and 5xx, by status and whether they are problem+json.
    pub(super) refusals: BTreeMap<(u16, bool), u64>,
    /// Ends the load after so many refusals.
    pub(super) enough_refusals: u64,
    /// When the last request that was acknowledged was sent.
    pub(super) last_acknowledged_sent: Option<Instant>,
    unexpected: Vec<String>,
}

impl Client {
    /// A client for the server of `scene`.
    pub(super) fn new(scene: Scene, journal: Journal, seed: u64) -> Self {
        Self {
            scene,
            journal,
            random: Random::new(seed),
            next: 0,
            sales: BTreeMap::new(),
            refunds: BTreeMap::new(),
            refundable: Vec::new(),
            steps: Vec::new(),
            cut_off: now(),
            under_way: BTreeMap::new(),
            unknown: Vec::new(),
            acknowledged: Vec::new(),
            refusals: BTreeMap::new(),
            enough_refusals: u64::MAX,
            last_acknowledged_sent: None,
            unexpected: Vec::new(),
        }
    }

    /// Speaks to a restarted server from now on.
    pub(super) fn reach(&mut self, control: Control) {
        self.scene.control = control;
        self.cut_off = now();
    }

    /// Fails when the server answered something that is neither a success nor a refusal under stress.
    pub(super) fn check(&self) -> Result<()> {
        super::report("unexpected answers", &self.unexpected)
    }

    /// Sends again what has no answer: it must succeed now, whether it had been done before or not.
    pub(super) fn repeat_unknown(&mut self) -> Result<()> {
        for request in std::mem::take(&mut self.unknown) {
            let answer = self.send(&request)?;
            self.settle(&request, answer.status, answer.problem, &answer.body);
            ensure!(self.unknown.is_empty(), "repeating {} answered {}", request.keys[0], answer.text());
        }
        self.check()
    }

    /// Sends some of what was acknowledged again: the first answer must come back, and nothing be added.
    pub(super) fn repeat_acknowledged(&self) -> Result<()> {
        let before = self.journal.acknowledged()?;
        for request in &self.acknowledged {
            let answer = self.send(request)?;
            ensure!(matches!(answer.status, 200 | 201), "repeating {} answered {}", request.keys[0], answer.text());
            let reply = answer.json()?;
            let items: Vec<&Value> = reply["results"].as_array().map_or(vec![&reply], |items| items.iter().collect());
            ensure!(items.len() == request.keys.len(), "{} results for {}", items.len(), request.keys.len());
            for (item, key) in items.into_iter().zip(&request.keys) {
                let known = before.get(&(request.kind, key.clone())).map(String::as_str);
                ensure!(item["id"].as_str() == known, "repeating {key}, known as {known:?}, answered {item}");
                // A stored reply to an Idempotency-Key is the first one, without a mark in the body.
                let repeated = !request.headers.is_empty() || item["duplicate"] == true;
                ensure!(repeated, "repeating {key} was not seen as a repetition: {item}");
            }
        }
        Ok(())
    }

    fn send(&self, request: &Request) -> Result<Answer> {
        self.scene.control.send("POST", &request.path, &request.headers, request.body.as_bytes())
    }

    fn fact(kind: Kind, path: &str, key: String, body: &Value) -> Request {
        let (path, body) = (path.to_owned(), body.to_string());
        Request { kind, keys: vec![key], path, headers: String::new(), body, sent: None }
    }

    fn command(kind: Kind, path: &str, key: String, body: &Value) -> Request {
        Request { headers: format!("idempotency-key: {key}\r\n"), ..Self::fact(kind, path, key, body) }
    }

    fn sale(&mut self) -> (String, Value) {
        self.next += 1;
        let (number, key) = (self.next, format!("s{}", self.next));
        let amount = i64::try_from(100 + self.random.below(19_900)).expect("small");
        let partner = self.random.below(scene::PARTNERS);
        let mut sale = json!({
            "source": SOURCE, "external_id": key, "campaign_id": self.scene.campaign_id,
            "customer_ref": format!("c{}", number % 997), "occurred_at": scene::OCCURRED_AT,
            "amount": {"amount_minor": amount, "currency": "USD"},
        });
        if number.is_multiple_of(2) {
            sale["code"] = format!("P{:02}", partner + 1).into();
        } else {
            sale["partner_id"] = self.scene.partner_ids[usize::try_from(partner).expect("small")].as_str().into();
        }
        self.sales.insert(key.clone(), amount);
        (key, sale)
    }

    fn refund(&mut self, sale: String) -> Request {
        let key = format!("r{sale}");
        let amount = self.sales[&sale] / 2;
        let body = json!({
            "source": SOURCE, "external_id": key, "conversion_source": SOURCE, "conversion_external_id": sale,
            "occurred_at": scene::OCCURRED_AT, "kind": "refund", "reason": "returned",
            "amount": {"amount_minor": amount, "currency": "USD"},
        });
        self.refunds.insert(key.clone(), (sale, amount));
        Self::fact(Kind::Refund, "/v1/refunds", key, &body)
    }

    fn touch(&mut self) -> Request {
        self.next += 1;
        let key = format!("t{}", self.next);
        let body = json!({
            "source": SOURCE, "external_id": key, "campaign_id": self.scene.campaign_id, "kind": "click",
            "partner_id": self.scene.partner_ids[0], "customer_ref": format!("c{}", self.next % 997),
            "occurred_at": scene::OCCURRED_AT,
        });
        Self::fact(Kind::Touch, "/v1/touches", key, &body)
    }

    fn partner(&mut self) -> Request {
        self.next += 1;
        let key = format!("p{}", self.next);
        let body = scene::partner(&key, &format!("{key}@example.com"));
        Self::command(Kind::Partner, "/v1/partners", key, &body)
    }

    /// The next step of a payout that exists, or another payout.
    fn payout(&mut self) -> Request {
        self.next += 1;
        let key = format!("o{}", self.next);
        match self.steps.pop() {
            Some((id, step)) => Self::command(Kind::Command, &format!("/v1/payouts/{id}/{step}"), key, &json!({})),
            None => {
                let body = json!({"currency": "USD", "cut_off": self.cut_off});
                Self::command(Kind::Payout, "/v1/payouts", key, &body)
            }
        }
    }

    fn bulk(&mut self) -> Request {
        let (keys, items): (Vec<_>, Vec<_>) = (0..PER_BULK).map(|_| self.sale()).unzip();
        let body = json!({"items": items}).to_string();
        let path = "/v1/conversions/bulk".to_owned();
        Request { kind: Kind::Sale, keys, path, headers: String::new(), body, sent: None }
    }

    fn choose(&mut self) -> Request {
        let refundable = |client: &mut Self| {
            let count = client.refundable.len() as u64;
            (count > 0).then(|| usize::try_from(client.random.below(count)).expect("an index"))
        };
        match self.random.below(100) {
            0..4 => self.bulk(),
            4..10 => match refundable(self) {
                Some(index) => {
                    let sale = self.refundable.swap_remove(index);
                    self.refund(sale)
                }
                None => self.touch(),
            },
            10..14 => self.touch(),
            14..16 => self.partner(),
            16..17 => self.payout(),
            _ => {
                let (key, body) = self.sale();
                Self::fact(Kind::Sale, "/v1/conversions", key, &body)
            }
        }
    }

    /// Notes what an answer says about each item of a request.
    fn settle(&mut self, request: &Request, status: u16, problem: bool, body: &[u8]) {
        if status == 429 || status >= 500 {
            *self.refusals.entry((status, problem)).or_default() += 1;
            self.unknown.push(request.clone());
            return;
        }
        if matches!(request.kind, Kind::Payout | Kind::Command) && matches!(status, 409 | 422) {
            return; // nothing to pay, or another payout was first
        }
        let reply: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_bulk = request.path.ends_with("/bulk");
        let items = match reply["results"].as_array() {
            Some(results) if is_bulk && results.len() == request.keys.len() => results.clone(),
            _ if is_bulk => Vec::new(),
            _ => vec![reply],
        };
        let accepted = |item: &Value| !is_bulk || matches!(item["status"].as_u64(), Some(200 | 201));
        let all_accepted = items.iter().all(|item| accepted(item) && item["id"].is_string());
        if !matches!(status, 200 | 201) || items.is_empty() || !all_accepted {
            let text = String::from_utf8_lossy(body);
            self.unexpected.push(format!("{} {} answered {status} {text}", request.path, request.keys[0]));
            return;
        }
        for (item, key) in items.iter().zip(&request.keys) {
            let id = item["id"].as_str().unwrap_or_default();
            self.journal.note(request.kind, key, id);
            match request.kind {
                Kind::Sale => self.refundable.push(key.clone()),
                Kind::Payout => self.steps.push((id.to_owned(), "approve")),
                Kind::Command if request.path.ends_with("/approve") => self.steps.push((id.to_owned(), "submit")),
                _ => {}
            }
        }
        self.last_acknowledged_sent = self.last_acknowledged_sent.max(request.sent);
        if self.acknowledged.len() < KEPT {
            self.acknowledged.push(request.clone());
        } else {
            let place = usize::try_from(self.random.below(KEPT as u64 * 20)).expect("small");
            if let Some(kept) = self.acknowledged.get_mut(place) {
                *kept = request.clone();
            }
        }
    }
}

/// The wall clock as the API writes it, from the one program that formats it.
fn now() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%FT%TZ"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Traffic for Client {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        if self.refusals.values().sum::<u64>() >= self.enough_refusals {
            return None;
        }
        let mut request = self.choose();
        buffer.clear();
        let key = &self.scene.control.key;
        buffer.extend(render("POST", &request.path, &request.headers, key, request.body.as_bytes()));
        request.sent = Some(Instant::now());
        self.next += 1;
        self.under_way.insert(self.next, request);
        Some(self.next)
    }

    fn done(&mut self, tag: u64, reply: Option<&Reply<'_>>) {
        let Some(request) = self.under_way.remove(&tag) else { return };
        match reply {
            Some(reply) => self.settle(&request, reply.status, reply.problem, reply.body),
            None => self.unknown.push(request),
        }
    }
}
