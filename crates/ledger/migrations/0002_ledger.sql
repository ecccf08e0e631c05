-- One row is one entry: it debits one account and credits another (both follow from its kind), so it cannot fail to sum
-- to zero. (position, line): the event that tells it, and its place in that event.
CREATE TABLE ledger_entry (
    position     {int} NOT NULL,
    line         {int} NOT NULL,
    kind         {word} NOT NULL,
    partner_id   {id} NOT NULL,
    campaign_id  {id},
    gateway      {word},
    source_id    {id} NOT NULL,
    amount_minor {int} NOT NULL,
    currency     {word} NOT NULL,
    posted_at    {int} NOT NULL,
    PRIMARY KEY (position, line)
) {clustered};

-- What a partner's balance, entries and statement read.
CREATE INDEX ledger_entry_partner ON ledger_entry (partner_id, position);

-- All running totals per kind at the positions of ledger_roll_up: a balance at any position is the totals of the latest
-- roll-up at or before it, plus the entries after that. Reading them never walks over earlier roll-ups.
CREATE TABLE ledger_total (
    position     {int} NOT NULL,
    partner_id   {id} NOT NULL,
    currency     {word} NOT NULL,
    kind         {word} NOT NULL,
    campaign_id  {bytes} NOT NULL,
    gateway      {word} NOT NULL,
    amount_minor {int} NOT NULL,
    entries      {int} NOT NULL,
    PRIMARY KEY (position, partner_id, currency, kind, campaign_id, gateway)
) {clustered};

CREATE TABLE ledger_roll_up (
    position     {int} NOT NULL PRIMARY KEY,
    totals       {int} NOT NULL,
    rolled_up_at {int} NOT NULL
);
