//! Conversions as load: one request is rendered once; then only its digits change.

use super::connection::{Reply, render};
use super::scene::Scene;
use super::{Traffic, scene};

/// Digits of the numbers in a conversion's template.
const EXTERNAL_ID: &str = "000000000000";
const CUSTOMER: &str = "c000000";
const AMOUNT: &str = "10000";
/// Customers that buy in turn.
const CUSTOMERS: u64 = 50_000;

/// Conversions numbered from `first`, one or many per request.
pub(crate) struct Conversions {
    template: Vec<u8>,
    /// Where each item starts in the template.
    items: Vec<usize>,
    /// Where the digits are, from the start of an item.
    digits: Digits,
    next: u64,
    end: u64,
    /// Whether every other conversion is the first partner's.
    pub(crate) hot: bool,
    /// Conversions answered with 200 or 201.
    pub(crate) accepted: u64,
    /// Conversions answered otherwise.
    pub(crate) refused: u64,
}

#[derive(Clone, Copy)]
struct Digits {
    external_id: usize,
    code: usize,
    customer: usize,
    amount: usize,
}

impl Conversions {
    /// `count` conversions, `per_request` in each request: 1 is `POST /v1/conversions`, more is the bulk call. With
    /// a `count` that is no multiple the last ones are left out.
    pub(crate) fn new(scene: &Scene, source: &str, per_request: u64, first: u64, count: u64) -> Self {
        let item = item(scene, source);
        let find = |digits: &str| item.find(digits).expect("the item has it");
        let digits = Digits {
            external_id: find(EXTERNAL_ID),
            code: find("P00") + 1,
            customer: find(CUSTOMER) + 1,
            amount: find(AMOUNT),
        };
        let (path, body, gap) = if per_request == 1 {
            ("/v1/conversions", item.clone(), 0)
        } else {
            let items = vec![item.as_str(); usize::try_from(per_request).expect("a small number")];
            ("/v1/conversions/bulk", format!("{{\"items\":[{}]}}", items.join(",")), 1)
        };
        let template = render("POST", path, "", &scene.control.key, body.as_bytes());
        let start = template.len() - body.len() + if gap == 0 { 0 } else { "{\"items\":[".len() };
        let items = (0..usize::try_from(per_request).expect("a small number")).map(|n| start + n * (item.len() + gap));
        Self {
            template,
            items: items.collect(),
            digits,
            next: first,
            end: first + count,
            hot: false,
            accepted: 0,
            refused: 0,
        }
    }

    fn patch(&self, request: &mut [u8], number: u64, start: usize) {
        let partner = match (self.hot, number % 2) {
            (true, 0) => 1,
            (true, _) => 1 + number / 2 % scene::PARTNERS,
            (false, _) => 1 + number % scene::PARTNERS,
        };
        put(request, start + self.digits.external_id, EXTERNAL_ID.len(), number);
        put(request, start + self.digits.code, 2, partner);
        put(request, start + self.digits.customer, CUSTOMER.len() - 1, number % CUSTOMERS);
        put(request, start + self.digits.amount, AMOUNT.len(), 10_000 + number.wrapping_mul(7_919) % 90_000);
    }
}

impl Traffic for Conversions {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        let first = self.next;
        let count = self.items.len() as u64;
        if first + count > self.end {
            return None;
        }
        self.next += count;
        if buffer.is_empty() {
            buffer.extend_from_slice(&self.template);
        }
        for (number, start) in (first..).zip(&self.items) {
            self.patch(buffer, number, *start);
        }
        Some(first)
    }

    fn done(&mut self, _tag: u64, reply: Option<&Reply<'_>>) {
        let items = self.items.len() as u64;
        let accepted = match reply {
            Some(reply) if items == 1 && matches!(reply.status, 200 | 201) => 1,
            Some(reply) if items > 1 && reply.status == 200 => accepted_items(reply.body),
            _ => 0,
        };
        self.accepted += accepted;
        self.refused += items.saturating_sub(accepted);
    }
}

fn item(scene: &Scene, source: &str) -> String {
    format!(
        "{{\"source\":\"{source}\",\"external_id\":\"{EXTERNAL_ID}\",\"campaign_id\":\"{}\",\"code\":\"P00\",\
         \"customer_ref\":\"{CUSTOMER}\",\"occurred_at\":\"{}\",\
         \"amount\":{{\"amount_minor\":{AMOUNT},\"currency\":\"USD\"}}}}",
        scene.campaign_id,
        scene::OCCURRED_AT
    )
}

fn put(request: &mut [u8], start: usize, width: usize, number: u64) {
    let mut rest = number;
    for digit in request[start..start + width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
}

/// Items of a bulk reply that were recorded now or before.
fn accepted_items(body: &[u8]) -> u64 {
    let accepted = |window: &&[u8]| *window == b"\"status\":201" || *window == b"\"status\":200";
    body.windows("\"status\":201".len()).filter(accepted).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::control::Control;
    use serde_json::Value;

    fn scene() -> Scene {
        let control = Control { address: crate::load::loopback(1), key: "k".to_owned() };
        Scene { control, campaign_id: "cmp_0".to_owned(), partner_ids: Vec::new() }
    }

    fn body(request: &[u8]) -> Value {
        let text = std::str::from_utf8(request).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[test]
    fn each_request_is_valid_and_has_its_own_number() {
        let mut single = Conversions::new(&scene(), "bench", 1, 41, 2);
        let mut buffer = Vec::new();
        assert_eq!(single.next(&mut buffer), Some(41));
        assert_eq!(single.next(&mut buffer), Some(42));
        let conversion = body(&buffer);
        assert_eq!(conversion["external_id"], "000000000042");
        assert_eq!(conversion["code"], "P07");
        assert_eq!(conversion["customer_ref"], "c000042");
        assert_eq!(conversion["amount"]["amount_minor"], 10_000 + 42 * 7_919 % 90_000);
        assert_eq!(single.next(&mut buffer), None);
    }

    #[test]
    fn a_bulk_request_has_every_item_once() {
        let mut bulk = Conversions::new(&scene(), "bench", 3, 0, 7);
        let mut buffer = Vec::new();
        assert_eq!(bulk.next(&mut buffer), Some(0));
        assert_eq!(bulk.next(&mut buffer), Some(3));
        let items = body(&buffer)["items"].as_array().unwrap().clone();
        let ids: Vec<_> = items.iter().map(|item| item["external_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["000000000003", "000000000004", "000000000005"]);
        assert_eq!(bulk.next(&mut buffer), None, "the seventh alone fills no request");
    }

    #[test]
    fn refused_items_of_a_bulk_reply_are_counted() {
        let mut bulk = Conversions::new(&scene(), "bench", 3, 0, 3);
        let body = br#"{"results":[{"status":201},{"status":422},{"status":200,"duplicate":true}]}"#;
        bulk.done(0, Some(&Reply { status: 200, retry_after: false, problem: false, body }));
        assert_eq!((bulk.accepted, bulk.refused), (2, 1));
        bulk.done(0, None);
        assert_eq!((bulk.accepted, bulk.refused), (2, 4));
    }
}
