-- A touch, as told. What names a partner or campaign by another system's reference has no id until that is known.
-- counted_from: the position from which on decisions see it: its own, or that of the event that resumed it.
CREATE TABLE touch (
    id           {id} NOT NULL PRIMARY KEY,
    source       {key} NOT NULL,
    external_id  {key} NOT NULL,
    digest       {id} NOT NULL,
    position     {int} NOT NULL,
    counted_from {int} NOT NULL,
    recorded_at  {int} NOT NULL,
    occurred_at  {int} NOT NULL,
    kind         {word} NOT NULL,
    customer_key {id} NOT NULL,
    campaign_id  {id},
    campaign_ref {long_key},
    partner_id   {id},
    partner_ref  {long_key},
    click_id     {key}
) {clustered};
CREATE UNIQUE INDEX touch_natural_key ON touch (source, external_id);
CREATE INDEX touch_customer ON touch (customer_key);

-- Few touches carry a click id: a table of its own keeps the others free of an index entry.
CREATE TABLE touch_click (
    click_id {key} NOT NULL,
    touch_id {id} NOT NULL,
    PRIMARY KEY (click_id, touch_id)
) {clustered};

-- A conversion as told (until `terms`), and where its attribution stands. customer_ref is personal: it stands here
-- alone and can be set to null, customer_key stays.
CREATE TABLE conversion (
    id                {id} NOT NULL PRIMARY KEY,
    source            {key} NOT NULL,
    external_id       {key} NOT NULL,
    digest            {id} NOT NULL,
    position          {int} NOT NULL,
    recorded_at       {int} NOT NULL,
    kind              {word} NOT NULL,
    occurred_at       {int} NOT NULL,
    amount_minor      {int} NOT NULL,
    currency          {word} NOT NULL,
    named_campaign    {long_key},
    named_partner     {long_key},
    code              {key},
    click_id          {key},
    customer_key      {id},
    customer_ref      {key},
    order_lines       {text},
    metadata          {text},
    terms             {text},
    state             {word} NOT NULL,
    reason            {text},
    decision          {int} NOT NULL,
    decision_position {int},
    decided_from      {int},
    decided_at        {int},
    automatic_until   {int},
    decided_by        {key},
    campaign_id       {id},
    partner_id        {id},
    first_purchase    {int} NOT NULL,
    refund_sum_minor  {int} NOT NULL,
    whole_refunds     {int} NOT NULL
) {clustered};
CREATE UNIQUE INDEX conversion_natural_key ON conversion (source, external_id);

-- A customer's decided conversions, so much of each as the decision about another one asks for: the next one is decided
-- from one page, not from one page for every earlier one. campaign_id is set for what counts as a purchase there.
CREATE TABLE customer_conversion (
    customer_key   {id} NOT NULL,
    conversion_id  {id} NOT NULL,
    campaign_id    {id},
    occurred_at    {int} NOT NULL,
    source         {key} NOT NULL,
    external_id    {key} NOT NULL,
    first_purchase {int} NOT NULL,
    PRIMARY KEY (customer_key, conversion_id)
) {clustered};

-- Conversions that are decided again when something appears: a code, a click, an enrolment. Rows stay: a second try
-- that changes nothing costs nothing.
CREATE TABLE conversion_wait (
    wait_key      {long_key} NOT NULL,
    conversion_id {id} NOT NULL,
    PRIMARY KEY (wait_key, conversion_id)
) {clustered};

CREATE TABLE refund (
    id                     {id} NOT NULL PRIMARY KEY,
    source                 {key} NOT NULL,
    external_id            {key} NOT NULL,
    digest                 {id} NOT NULL,
    position               {int} NOT NULL,
    recorded_at            {int} NOT NULL,
    occurred_at            {int} NOT NULL,
    conversion_source      {key} NOT NULL,
    conversion_external_id {key} NOT NULL,
    kind                   {word} NOT NULL,
    amount_minor           {int},
    currency               {word},
    note                   {text} NOT NULL,
    state                  {word} NOT NULL,
    refusal                {word}
) {clustered};
CREATE UNIQUE INDEX refund_natural_key ON refund (source, external_id);
CREATE INDEX refund_conversion ON refund (conversion_source, conversion_external_id);

-- References for which a provisional partner or campaign has been asked for: once each.
CREATE TABLE requested_reference (
    kind      {word} NOT NULL,
    reference {long_key} NOT NULL,
    position  {int} NOT NULL,
    PRIMARY KEY (kind, reference)
) {clustered};

-- One row: the salt that turns customer references into keys. Without it the keys say nothing.
CREATE TABLE customer_salt (
    id   {int} NOT NULL PRIMARY KEY,
    salt {bytes} NOT NULL
);

-- One row: how far the sweep over parked facts has come, so that its next step goes on from there.
CREATE TABLE parked_sweep (
    id       {int} NOT NULL PRIMARY KEY,
    position {int} NOT NULL
);
INSERT INTO parked_sweep (id, position) VALUES (1, 0);
