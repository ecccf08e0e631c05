//! What the system says has happened, read from its events like any other reader, and compared with the journal.

use super::client::{Kind, Refund};
use super::journal::Acknowledged;
use crate::load::control::Control;
use crate::load::scene::PARTNERS;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Events per page.
const PAGE: u64 = 500;
/// Basis points of the campaign that the client uses.
const BASIS_POINTS: i64 = 800;

/// Everything read so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The last position.
    position: u64,
    /// Ids by natural key; more than one id is a fact that was doubled.
    recorded: BTreeMap<(Kind, String), Vec<String>>,
    /// How often each partner applied and each payout was created, by id.
    created: BTreeMap<(Kind, String), u32>,
    /// Live commissions of each conversion, with what is kept in cents.
    live: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Seen {
    /// Reads on to the end.
    ///
    /// # Errors
    /// When a page is not as documented, or the positions have a gap.
    pub(super) fn pull(&mut self, control: &Control) -> Result<()> {
        loop {
            let page = control.get(&format!("/v1/events?after={}&limit={PAGE}", self.position))?;
            let events = page["items"].as_array().with_context(|| format!("a page of events without items: {page}"))?;
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                let position = event["sequence"].as_str().and_then(|text| text.parse::<u64>().ok());
                let next = self.position + 1;
                ensure!(position == Some(next), "position {next} is missing: after it comes {event}");
                self.position = next;
                self.take(event["type"].as_str().unwrap_or_default(), &event["data"])?;
            }
        }
    }

    fn take(&mut self, event_type: &str, data: &Value) -> Result<()> {
        let text = |name: &str| {
            let value = data[name].as_str().map(str::to_owned);
            value.with_context(|| format!("{event_type} without {name}: {data}"))
        };
        let cents = |name: &str| data[name].as_i64().with_context(|| format!("{event_type} without {name}: {data}"));
        let recorded = match event_type {
            "conversions.recorded.v1" => Some((Kind::Sale, "conversion_id")),
            "conversions.refund_recorded.v1" => Some((Kind::Refund, "refund_id")),
            "conversions.touch_recorded.v1" => Some((Kind::Touch, "touch_id")),
            _ => None,
        };
        if let Some((kind, id)) = recorded {
            self.recorded.entry((kind, text("external_id")?)).or_default().push(text(id)?);
        }
        match event_type {
            "partners.applied.v1" => *self.created.entry((Kind::Partner, text("partner_id")?)).or_default() += 1,
            "payments.payout_created.v1" => {
                *self.created.entry((Kind::Payout, text("payout_id")?)).or_default() += 1;
            }
            "commissions.accrued.v1" => {
                self.live
                    .entry(text("conversion_id")?)
                    .or_default()
                    .insert(text("commission_id")?, cents("gross_minor")?);
            }
            "commissions.reversed.v1" => {
                self.live
                    .entry(text("conversion_id")?)
                    .or_default()
                    .insert(text("commission_id")?, cents("kept_minor")?);
            }
            "commissions.superseded.v1" | "commissions.rejected.v1" => {
                self.live.entry(text("conversion_id")?).or_default().remove(&text("commission_id")?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Acknowledged facts that are not there exactly once, under the acknowledged id.
    pub(super) fn missing(&self, journal: &Acknowledged) -> Vec<String> {
        let wrong = |((kind, key), id): (&(Kind, String), &String)| {
            if *kind == Kind::Command {
                return None; // its effect is a state, which `verify` judges
            }
            if matches!(kind, Kind::Partner | Kind::Payout) {
                let count = self.created.get(&(*kind, id.clone())).copied().unwrap_or(0);
                return (count != 1).then(|| format!("{} {key} ({id}) was created {count} times", kind.name()));
            }
            match self.recorded.get(&(*kind, key.clone())).map(Vec::as_slice).unwrap_or_default() {
                [one] if one == id => None,
                [] => Some(format!("{} {key} ({id}) is lost", kind.name())),
                ids => Some(format!("{} {key} was acknowledged as {id} and is recorded as {ids:?}", kind.name())),
            }
        };
        journal.iter().filter_map(wrong).collect()
    }

    /// As `missing`, and facts that are there without ever having been acknowledged. Only right when every request
    /// has an answer.
    pub(super) fn differences(&self, journal: &Acknowledged) -> Vec<String> {
        let mut differences = self.missing(journal);
        let unknown = self.recorded.keys().filter(|fact| !journal.contains_key(fact));
        differences.extend(unknown.map(|(kind, key)| format!("{} {key} was never acknowledged", kind.name())));
        // The scene's partners and payouts are not in the journal.
        for (kind, others) in [(Kind::Partner, PARTNERS), (Kind::Payout, 0)] {
            let expected = others + journal.keys().filter(|(known, _)| *known == kind).count() as u64;
            let count = self.created.keys().filter(|(created, _)| *created == kind).count() as u64;
            if count != expected {
                differences.push(format!("{count} times a {} was created instead of {expected}", kind.name()));
            }
        }
        differences
    }

    /// Sales without exactly one live commission of the right amount. Only right when the reactions are done.
    pub(super) fn wrong_commissions(
        &self,
        sales: &BTreeMap<String, i64>,
        refunds: &BTreeMap<String, Refund>,
    ) -> Vec<String> {
        let refunded: BTreeMap<&str, i64> = refunds.values().map(|(sale, amount)| (sale.as_str(), *amount)).collect();
        let mut wrong = Vec::new();
        for (key, amount) in sales {
            let Some([id]) = self.recorded.get(&(Kind::Sale, key.clone())).map(Vec::as_slice) else {
                continue; // never recorded, or doubled: said by `differences`
            };
            let gross = half_up(amount * BASIS_POINTS, 10_000);
            let kept = half_up(gross * (amount - refunded.get(key.as_str()).unwrap_or(&0)), *amount);
            let live: Vec<i64> = self.live.get(id).map(|live| live.values().copied().collect()).unwrap_or_default();
            if live != [kept] {
                wrong.push(format!("sale {key} ({id}) of {amount} should keep {kept}, its live commissions: {live:?}"));
            }
        }
        wrong
    }
}

/// `numerator / denominator` rounded half-up, for values that are not negative.
fn half_up(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator) / (2 * denominator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(events: &[(&str, Value)]) -> Seen {
        let mut seen = Seen::default();
        for (event_type, data) in events {
            seen.take(event_type, data).unwrap();
        }
        seen
    }

    fn recorded(key: &str, id: &str) -> (&'static str, Value) {
        ("conversions.recorded.v1", json!({"external_id": key, "conversion_id": id}))
    }

    fn accrued(conversion: &str, commission: &str, gross: i64) -> (&'static str, Value) {
        let data = json!({"conversion_id": conversion, "commission_id": commission, "gross_minor": gross});
        ("commissions.accrued.v1", data)
    }

    fn journal(facts: &[(&str, &str)]) -> Acknowledged {
        facts.iter().map(|(key, id)| ((Kind::Sale, (*key).to_owned()), (*id).to_owned())).collect()
    }

    #[test]
    fn lost_doubled_renamed_and_invented_facts_are_found() {
        let seen = seen(&[
            recorded("s1", "cnv_1"),
            recorded("s2", "cnv_2"),
            recorded("s2", "cnv_3"),
            recorded("s4", "cnv_5"),
            recorded("s5", "cnv_6"),
        ]);
        let journal = journal(&[("s1", "cnv_1"), ("s2", "cnv_2"), ("s3", "cnv_4"), ("s4", "cnv_4")]);
        assert_eq!(
            seen.differences(&journal),
            [
                "sale s2 was acknowledged as cnv_2 and is recorded as [\"cnv_2\", \"cnv_3\"]",
                "sale s3 (cnv_4) is lost",
                "sale s4 was acknowledged as cnv_4 and is recorded as [\"cnv_5\"]",
                "sale s5 was never acknowledged",
                "0 times a partner was created instead of 12",
            ]
        );
    }

    #[test]
    fn a_commission_must_live_once_and_keep_what_the_refunds_leave() {
        let sales: BTreeMap<String, i64> = [("s1", 1_001), ("s2", 1_001), ("s3", 1_001), ("s4", 1_001)]
            .map(|(key, cents)| (key.to_owned(), cents))
            .into();
        let refunds: BTreeMap<String, Refund> = [("rs2".to_owned(), ("s2".to_owned(), 500))].into();
        // 8 % of 10.01 is 0.8008, so 80 cents; 501/1001 of 80 is 40.04, so 40 cents.
        let reversed = json!({"conversion_id": "cnv_2", "commission_id": "com_2", "kept_minor": 40});
        let superseded = json!({"conversion_id": "cnv_4", "commission_id": "com_4"});
        let seen = seen(&[
            recorded("s1", "cnv_1"),
            recorded("s2", "cnv_2"),
            recorded("s3", "cnv_3"),
            recorded("s4", "cnv_4"),
            accrued("cnv_1", "com_1", 80),
            accrued("cnv_2", "com_2", 80),
            ("commissions.reversed.v1", reversed),
            accrued("cnv_3", "com_3", 80),
            accrued("cnv_3", "com_3b", 80),
            accrued("cnv_4", "com_4", 80),
            ("commissions.superseded.v1", superseded),
        ]);
        let wrong = seen.wrong_commissions(&sales, &refunds);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("sale s3") && wrong[0].ends_with("[80, 80]"));
        assert!(wrong[1].starts_with("sale s4") && wrong[1].ends_with("[]"));
    }
}
