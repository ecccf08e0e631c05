-- One row per commission, superseded and rejected ones included. The positions name the events that it was computed from:
-- `decision_position` the attribution, `refund_position` the event that told the refunds that `kept_minor` reflects.
-- `bonus_customer` is set when the bonus of that customer's first purchase is part of it.
CREATE TABLE commission (
    id                {id} NOT NULL PRIMARY KEY,
    conversion_id     {id} NOT NULL,
    partner_id        {id} NOT NULL,
    campaign_id       {id} NOT NULL,
    currency          {word} NOT NULL,
    terms_version     {int} NOT NULL,
    gross_minor       {int} NOT NULL,
    kept_minor        {int} NOT NULL,
    kept_at_hold_end_minor {int},
    bonus_customer    {id},
    auto_limit_minor  {int},
    state             {word} NOT NULL,
    queued            {int} NOT NULL,
    reason            {text},
    decision_position {int} NOT NULL,
    refund_position   {int} NOT NULL,
    inputs_digest     {id} NOT NULL,
    hold_ends_at      {int} NOT NULL,
    due_at            {int},
    approved_position {int},
    payout_item_id    {id},
    position          {int} NOT NULL,
    created_at        {int} NOT NULL
) {clustered};
CREATE INDEX commission_conversion ON commission (conversion_id);
CREATE INDEX commission_partner ON commission (partner_id, id);
-- Set only while the decision at the end of the hold is to come.
CREATE INDEX commission_due ON commission (due_at);

-- Who holds the bonus of a customer's first purchase; nobody any more when `commission_id` is null.
CREATE TABLE first_purchase_bonus (
    campaign_id   {id} NOT NULL,
    customer      {id} NOT NULL,
    commission_id {id},
    PRIMARY KEY (campaign_id, customer)
) {clustered};

-- The sum of what is kept of a campaign's live commissions: what its budget is compared with.
CREATE TABLE campaign_spend (
    campaign_id     {id} NOT NULL PRIMARY KEY,
    committed_minor {int} NOT NULL
) {clustered};

-- How far the facts were known when this reaction last fell behind: when it has reached `position`, it has seen the
-- effect of every fact recorded before `known_up_to`.
CREATE TABLE hold_horizon (
    id          {int} NOT NULL PRIMARY KEY,
    known_up_to {int} NOT NULL,
    position    {int} NOT NULL
);
