-- One row is one entry: it debits one account and credits another (both follow from its kind), so it cannot fail to sum
-- to zero. (position, line): the event that tells it, and its place in that event.
CREATE TABLE ledger_entry (
    position     {int} NOT NULL,
    line         {int} NOT NULL,
    kind         {key} NOT NULL,
    partner_id   {id} NOT NULL,
    campaign_id  {id},
    gateway      {key},
    source_id    {id} NOT NULL,
    amount_minor {int} NOT NULL,
    currency     {key} NOT NULL,
    posted_at    {int} NOT NULL,
    PRIMARY KEY (position, line)
) {clustered};

-- Running totals per kind, written every few thousand entries for whatever changed since: a balance at any position is
-- the latest totals at or before it, plus the entries after them.
CREATE TABLE ledger_total (
    partner_id   {id} NOT NULL,
    currency     {key} NOT NULL,
    kind         {key} NOT NULL,
    campaign_id  {id} NOT NULL,
    gateway      {key} NOT NULL,
    position     {int} NOT NULL,
    amount_minor {int} NOT NULL,
    entries      {int} NOT NULL,
    PRIMARY KEY (partner_id, currency, kind, campaign_id, gateway, position)
) {clustered};

CREATE TABLE ledger_roll_up (
    position     {int} NOT NULL PRIMARY KEY,
    rolled_up_at {int} NOT NULL
);
