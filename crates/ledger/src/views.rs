//! What the ledger shows: entries, accounts, the trial balance, and its own check.

use std::collections::BTreeMap;

use kernel::{CampaignId, Currency, Fault, Id, PartnerId, Result, Timestamp};
use platform::{Reader, Row, event_log};
use serde::Serialize;

use crate::balance::{Totals, add_tail, balances, overflow, totals};
use crate::entry::{Account, Entry, EntryKind};

/// An entry as posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedEntry {
    /// The position of the event that tells it.
    pub position: i64,
    /// Its place in that event.
    pub line: i64,
    /// When it was posted: its known time.
    pub posted_at: Timestamp,
    /// The entry.
    pub entry: Entry,
}

/// One account of the trial balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AccountLine {
    /// `partner_payable:ptr_…`, `commission_expense:cmp_…`, `cash:sandbox`, `adjustment_expense`.
    pub account: String,
    /// The currency.
    pub currency: Currency,
    /// The sum of its debits, minor units.
    pub debit_minor: i64,
    /// The sum of its credits, minor units.
    pub credit_minor: i64,
    /// Debits less credits, minor units; all accounts of a currency sum to zero.
    pub balance_minor: i64,
}

impl Account {
    /// The account's full name.
    pub fn name(self, partner: PartnerId, campaign: Option<CampaignId>, gateway: Option<&str>) -> String {
        match self {
            Self::CommissionExpense => campaign.map_or_else(|| self.to_string(), |id| format!("{self}:{id}")),
            Self::PartnerPending | Self::PartnerPayable | Self::PartnerInPayout => format!("{self}:{partner}"),
            Self::Cash => format!("{self}:{}", gateway.unwrap_or("unknown")),
            Self::AdjustmentExpense | Self::WriteOff => self.to_string(),
        }
    }
}

const COLUMNS: &str =
    "position, line, kind, partner_id, campaign_id, gateway, source_id, amount_minor, currency, posted_at";

fn posted(row: &Row<'_>) -> Result<PostedEntry> {
    Ok(PostedEntry {
        position: row.int(0)?,
        line: row.int(1)?,
        entry: Entry {
            kind: row.name(2)?,
            partner_id: row.id(3)?,
            campaign_id: row.opt_id(4)?,
            gateway: row.opt_text(5)?.map(str::to_owned),
            source_id: row.bytes16(6)?,
            amount_minor: row.int(7)?,
            currency: row.text(8)?.parse().map_err(Fault::internal)?,
        },
        posted_at: row.time(9)?,
    })
}

/// Entries after (position, line), in order, of one partner or of all.
pub fn entries(
    reader: &Reader<'_>,
    after: (i64, i64),
    partner: Option<PartnerId>,
    limit: i64,
) -> Result<Vec<PostedEntry>> {
    let filter = if partner.is_some() { " AND partner_id = ?" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger_entry WHERE (position > ? OR (position = ? AND line > ?)){filter} ORDER BY position, line LIMIT ?"
    );
    let mut params = vec![after.0.into(), after.0.into(), after.1.into()];
    params.extend(partner.as_ref().map(platform::Value::from));
    params.push(limit.into());
    reader.query(&sql, &params, posted)
}

/// The entries that the events at these positions tell.
pub fn entries_at(reader: &Reader<'_>, positions: &[i64]) -> Result<Vec<PostedEntry>> {
    let keys: Vec<_> = positions.iter().map(|&position| [position.into()]).collect();
    let sql = format!("SELECT {COLUMNS} FROM ledger_entry WHERE position IN (?*) ORDER BY position, line");
    reader.query_in(&sql, &[], &keys, posted)
}

/// Every account with its debits and credits at `position`, by name.
pub fn trial_balance(reader: &Reader<'_>, position: i64) -> Result<Vec<AccountLine>> {
    lines(totals(reader, position, None)?)
}

fn lines(totals: Totals) -> Result<Vec<AccountLine>> {
    let mut accounts: BTreeMap<(String, Currency), (i64, i64)> = BTreeMap::new();
    for ((partner, currency, kind, campaign, gateway), (amount, _)) in totals {
        let currency: Currency = currency.parse().map_err(Fault::internal)?;
        let (debit, credit) = kind.sides();
        let mut add = |account: Account, debit: i64, credit: i64| {
            let sums = accounts.entry((account.name(partner, campaign, gateway.as_deref()), currency)).or_default();
            *sums = (sums.0.checked_add(debit)?, sums.1.checked_add(credit)?);
            Some(())
        };
        add(debit, amount, 0).and_then(|()| add(credit, 0, amount)).ok_or_else(overflow)?;
    }
    let line = |((account, currency), (debit_minor, credit_minor)): ((String, Currency), (i64, i64))| {
        let balance_minor = debit_minor.checked_sub(credit_minor).ok_or_else(overflow)?;
        Ok(AccountLine { account, currency, debit_minor, credit_minor, balance_minor })
    };
    accounts.into_iter().map(line).collect()
}

/// The ledger's own check, for `verify`: totals equal the sums of all entries, accounts sum to zero, the equation of
/// rules section 8 holds per partner and currency, and every entry's digest is in its event. Answers the number of
/// entries and the first differences in words.
pub fn check(reader: &Reader<'_>) -> Result<(i64, Vec<String>)> {
    let head = event_log::head(reader)?;
    let mut differences = Vec::new();
    let mut from_entries = Totals::new();
    add_tail(reader, &mut from_entries, 0, head, None)?;
    if totals(reader, head, None)? != from_entries {
        differences.push("the running totals differ from the sums of the entries".to_owned());
    }
    let entries = from_entries.values().map(|(_, entries)| entries).sum();
    let mut sums: BTreeMap<Currency, i64> = BTreeMap::new();
    for line in lines(from_entries)? {
        *sums.entry(line.currency).or_default() += line.balance_minor;
    }
    differences.extend(
        sums.into_iter()
            .filter(|(_, sum)| *sum != 0)
            .map(|(currency, sum)| format!("accounts in {currency} sum to {sum}")),
    );
    for partner in balances(reader, head, None)? {
        if !partner.balance.is_balanced() {
            differences.push(format!("{} {}: {:?}", partner.partner_id, partner.currency, partner.balance));
        }
    }
    check_digests(reader, head, &mut differences)?;
    Ok((entries, differences))
}

fn check_digests(reader: &Reader<'_>, head: i64, differences: &mut Vec<String>) -> Result<()> {
    let sql = "SELECT e.position, e.line, e.kind, e.partner_id, e.campaign_id, e.gateway, e.source_id, e.amount_minor, e.currency, \
        e.posted_at, o.payload FROM ledger_entry e LEFT JOIN outbox_event o ON o.position = e.position \
        WHERE e.position > ? AND e.position <= ? ORDER BY e.position, e.line";
    let mut after = 0;
    while after < head && differences.len() < 10 {
        let up_to = head.min(after + 16_384);
        reader.query(sql, &[after.into(), up_to.into()], |row| {
            let posted = posted(row)?;
            if !row.opt_text(10)?.is_some_and(|payload| payload.contains(&posted.entry.digest())) {
                differences.push(format!(
                    "the entry at {}.{} is not the one that its event tells",
                    posted.position, posted.line
                ));
            }
            Ok(())
        })?;
        after = up_to;
    }
    Ok(())
}

/// The kinds of entries that reduce what is payable because of refunds: they count after a payout's cut-off too.
impl EntryKind {
    /// Whether it is a reversal after approval.
    pub const fn is_clawback(self) -> bool {
        matches!(self, Self::Reversed)
    }
}

/// Whose id a source id is depends on the kind of entry; as text for people.
impl PostedEntry {
    /// The id of the commission, payout item or adjustment that the entry is about.
    pub fn source(&self) -> String {
        use EntryKind as K;
        let bytes = self.entry.source_id;
        match self.entry.kind {
            K::PayoutCreated | K::PayoutReleased | K::Settled | K::Returned => {
                kernel::PayoutItemId::from_bytes(bytes).to_string()
            }
            K::AdjustedUp | K::AdjustedDown | K::WrittenOff => kernel::AdjustmentId::from_bytes(bytes).to_string(),
            _ => {
                let id: kernel::CommissionId = Id::from_bytes(bytes);
                id.to_string()
            }
        }
    }
}
