CREATE TABLE payout (
    id               {id} NOT NULL PRIMARY KEY,
    version          {int} NOT NULL,
    state            {word} NOT NULL,
    currency         {word} NOT NULL,
    cut_off          {int} NOT NULL,
    cut_off_position {int} NOT NULL,
    gateway          {word} NOT NULL,
    item_count       {int} NOT NULL,
    total_minor      {int} NOT NULL,
    content_digest   {key} NOT NULL,
    carried          {text} NOT NULL,
    created_by       {key} NOT NULL,
    created_at       {int} NOT NULL,
    approved_by      {key},
    approved_at      {int},
    updated_at       {int} NOT NULL
) {clustered};

-- One partner's part of a batch. Its id is the gateway's idempotency key. `due_at`: when the gateway is asked again.
CREATE TABLE payout_item (
    id             {id} NOT NULL PRIMARY KEY,
    payout_id      {id} NOT NULL,
    partner_id     {id} NOT NULL,
    amount_minor   {int} NOT NULL,
    currency       {word} NOT NULL,
    gateway        {word} NOT NULL,
    state          {word} NOT NULL,
    commission_ids {text} NOT NULL,
    attempts       {int} NOT NULL,
    due_at         {int},
    reason         {text},
    created_at     {int} NOT NULL,
    updated_at     {int} NOT NULL
) {clustered};
CREATE INDEX payout_item_payout ON payout_item (payout_id, id);
-- The worker's questions: what is to be handed over, what is to be asked again.
CREATE INDEX payout_item_state ON payout_item (state, due_at);

CREATE TABLE adjustment (
    id           {id} NOT NULL PRIMARY KEY,
    version      {int} NOT NULL,
    state        {word} NOT NULL,
    kind         {word} NOT NULL,
    partner_id   {id} NOT NULL,
    amount_minor {int} NOT NULL,
    currency     {word} NOT NULL,
    reason       {text} NOT NULL,
    requested_by {key} NOT NULL,
    created_at   {int} NOT NULL,
    approved_by  {key},
    approved_at  {int}
) {clustered};
