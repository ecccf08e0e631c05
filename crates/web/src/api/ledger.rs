//! `/v1/ledger`.

use kernel::{CampaignId, Money, PartnerId, Timestamp};
use ledger::{AccountLine, EntryKind, PostedEntry};
use platform::{Paged, event_log};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Scope;
use crate::extract::Get;
use crate::list::{List, Pager, limit};
use crate::problem::Reply;
use crate::state::State;

const READ: u8 = Scope::LedgerRead as u8;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(accounts)).routes(routes!(entries))
}

/// When.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AsOf {
    /// As it was known at this time; now when absent.
    pub(super) as_of: Option<Timestamp>,
}

/// Every account at one time.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AccountsView {
    /// The last event that the balances know.
    position: i64,
    /// The accounts, by name; their balances sum to zero in every currency.
    accounts: Vec<AccountLine>,
}

impl AccountsView {
    /// The accounts as they were known at `asked.as_of`.
    pub(super) fn read(reader: &platform::Reader<'_>, asked: &AsOf) -> kernel::Result<Self> {
        let position = match asked.as_of {
            Some(time) => event_log::position_at(reader, time)?,
            None => event_log::head(reader)?,
        };
        Ok(Self { position, accounts: ledger::trial_balance(reader, position)? })
    }
}

/// Every account with its debits and credits.
#[utoipa::path(get, path = "/v1/ledger/accounts", tag = "ledger", security(("api_key" = ["ledger:read"])),
    params(AsOf), responses((status = 200, body = AccountsView)))]
async fn accounts(get: Get<AsOf, READ>) -> Reply {
    get.run(|reader, asked| AccountsView::read(reader, &asked)).await
}

/// Which entries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EntryParameters {
    /// About this partner.
    partner_id: Option<PartnerId>,
    /// Items at most; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An entry: one amount from one account to another.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LedgerEntryView {
    /// The position of the event that tells it.
    position: i64,
    /// Its place in that event.
    line: i64,
    /// When it was posted.
    posted_at: Timestamp,
    /// What kind of entry it is.
    kind: EntryKind,
    /// The account that is debited.
    debit: String,
    /// The account that is credited.
    credit: String,
    /// How much, zero or more.
    amount: Money,
    /// The partner that it is about.
    partner_id: PartnerId,
    /// The campaign, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign_id: Option<CampaignId>,
    /// The commission, payout item or adjustment that it is about.
    source: String,
    /// Digest over the entry, as told in its event.
    digest: String,
}

impl From<PostedEntry> for LedgerEntryView {
    fn from(posted: PostedEntry) -> Self {
        let entry = &posted.entry;
        let (debit, credit) = entry.kind.sides();
        let account =
            |account: ledger::Account| account.name(entry.partner_id, entry.campaign_id, entry.gateway.as_deref());
        Self {
            position: posted.position,
            line: posted.line,
            posted_at: posted.posted_at,
            kind: entry.kind,
            debit: account(debit),
            credit: account(credit),
            amount: Money::new(entry.amount_minor, entry.currency),
            partner_id: entry.partner_id,
            campaign_id: entry.campaign_id,
            source: posted.source(),
            digest: entry.digest(),
        }
    }
}

/// The entries, in the order of posting.
#[utoipa::path(get, path = "/v1/ledger/entries", tag = "ledger", security(("api_key" = ["ledger:read"])),
    params(EntryParameters), responses((status = 200, body = List<LedgerEntryView>)))]
async fn entries(get: Get<EntryParameters, READ>) -> Reply {
    let pager = Pager::of(&get);
    get.run(move |reader, asked| {
        let limit = limit(asked.limit)?;
        let after = asked.cursor.as_deref().map(|cursor| pager.open(cursor)).transpose()?.map_or((0, 0), split);
        let mut found = ledger::entries(reader, after, asked.partner_id, limit + 1)?;
        let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if has_more {
            found.pop();
        }
        let next = found.last().filter(|_| has_more).map(|last| join(last.position, last.line));
        let items = found.into_iter().map(LedgerEntryView::from).collect();
        Ok(pager.list(Paged { items, next, total: None }))
    })
    .await
}

/// Position and line as the key of a cursor.
fn join(position: i64, line: i64) -> [u8; 16] {
    ((u128::from(position.cast_unsigned()) << 64) | u128::from(line.cast_unsigned())).to_be_bytes()
}

fn split(key: [u8; 16]) -> (i64, i64) {
    let [high, low] = [0, 8].map(|start| {
        let mut half = [0; 8];
        half.copy_from_slice(&key[start..start + 8]);
        i64::from_be_bytes(half)
    });
    (high, low)
}
