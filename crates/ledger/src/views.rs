//! What the ledger shows: entries, accounts, the trial balance, and its own check.

use std::collections::BTreeMap;

use kernel::{CampaignId, Currency, Fault, Id, PartnerId, Result, Timestamp};
use platform::{Reader, Row, event_log};
use serde::Serialize;

use crate::balance::{Totals, add_tail, balances, overflow, rolled_up, totals};
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

/// The ledger's own check, for `verify`: the totals of every roll-up equal the sums of the entries, accounts sum to zero,
/// the equation of rules section 8 holds per partner and currency, and every event tells exactly the entries that are
/// posted under its position. Answers the number of entries and the first differences in words.
pub fn check(reader: &Reader<'_>) -> Result<(i64, Vec<String>)> {
    let head = event_log::head(reader)?;
    let mut differences = Vec::new();
    let from_entries = check_roll_ups(reader, head, &mut differences)?;
    let entries = from_entries.values().map(|(_, entries)| entries).sum();
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    for line in lines(from_entries)? {
        *sums.entry(line.currency).or_default() += i128::from(line.balance_minor);
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
    check_events(reader, head, &mut differences)?;
    Ok((entries, differences))
}

/// Sums all entries, and compares on the way with each roll-up.
fn check_roll_ups(reader: &Reader<'_>, head: i64, differences: &mut Vec<String>) -> Result<Totals> {
    let roll_ups = reader.query("SELECT position FROM ledger_roll_up ORDER BY position", &[], |row| row.int(0))?;
    let (mut sums, mut after) = (Totals::new(), 0);
    for position in roll_ups {
        add_tail(reader, &mut sums, after, position, None)?;
        if rolled_up(reader, position, None)? != sums {
            differences.push(format!("the totals at position {position} differ from the sums of the entries"));
        }
        after = position;
    }
    add_tail(reader, &mut sums, after, head.max(after), None)?;
    let beyond = "SELECT CAST(COUNT(*) AS BIGINT) FROM ledger_entry WHERE position < 1 OR position > ?";
    let beyond = reader.query_one(beyond, &[head.into()], |row| row.int(0))?.unwrap_or(0);
    if beyond > 0 {
        differences.push(format!("{beyond} entries are at positions that the log does not have"));
    }
    Ok(sums)
}

/// The contexts whose events tell entries.
const TELLING: [&str; 2] = ["commissions.", "payments."];

/// Compares the entries with the notes in the events, both ways.
fn check_events(reader: &Reader<'_>, head: i64, differences: &mut Vec<String>) -> Result<()> {
    const WINDOW: i64 = 4_096;
    let entries =
        format!("SELECT {COLUMNS} FROM ledger_entry WHERE position > ? AND position <= ? ORDER BY position, line");
    let mut after = 0;
    while after < head && differences.len() < 10 {
        let window = [after.into(), head.min(after + WINDOW).into()];
        let mut posted_at: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        reader.query(&entries, &window, |row| {
            let posted = posted(row)?;
            posted_at.entry(posted.position).or_default().push(posted.entry.digest());
            Ok(())
        })?;
        for event in event_log::range(reader, after, head.min(after + WINDOW), &[], usize::MAX)? {
            if !TELLING.iter().any(|context| event.event_type.starts_with(context)) {
                continue;
            }
            let mut posted = posted_at.remove(&event.position).unwrap_or_default();
            let mut told = digests(&event.payload);
            posted.sort_unstable();
            told.sort_unstable();
            if posted != told {
                let position = event.position;
                differences.push(format!("the entries at position {position} are not those that its event tells"));
            }
        }
        differences
            .extend(posted_at.keys().map(|position| format!("no event tells the entries at position {position}")));
        after += WINDOW;
    }
    Ok(())
}

/// The digests of the entries that an event's JSON tells. Quotes within text are escaped, so the mark is a key.
fn digests(payload: &str) -> Vec<&str> {
    let rest = payload.split("\"digest\":\"").skip(1);
    rest.filter_map(|rest| rest.split_once('"').map(|(digest, _)| digest)).collect()
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
