-- The event store. Its name and first columns are those that change-data-capture users know (Debezium's outbox router).
CREATE TABLE outbox_event (
    position      {int} NOT NULL PRIMARY KEY,
    id            {id} NOT NULL,
    aggregatetype {word} NOT NULL,
    aggregateid   {long_key} NOT NULL,
    type          {key} NOT NULL,
    payload       {text} NOT NULL,
    occurred_at   {int} NOT NULL,
    shard         {int} NOT NULL,
    actor         {key} NOT NULL,
    causationid   {id},
    correlationid {key}
);
CREATE INDEX outbox_event_aggregate ON outbox_event (aggregateid, position);

-- Few events carry a client's correlation id: a table of its own keeps the others free of an index entry.
CREATE TABLE event_correlation (
    correlationid {key} NOT NULL,
    position      {int} NOT NULL,
    PRIMARY KEY (correlationid, position)
) {clustered};

-- One row: the last position given out. Incremented last in every transaction that writes events, so that the order of
-- positions is the order of commits on every database, without gaps.
CREATE TABLE log_head (
    id       {int} NOT NULL PRIMARY KEY,
    position {int} NOT NULL,
    known_at {int} NOT NULL
);
INSERT INTO log_head (id, position, known_at) VALUES (1, 0, 0);

CREATE TABLE consumer_cursor (
    consumer  {word} NOT NULL,
    shard     {int} NOT NULL,
    position  {int} NOT NULL,
    error     {text},
    PRIMARY KEY (consumer, shard)
) {clustered};

CREATE TABLE parked (
    consumer   {word} NOT NULL,
    position   {int} NOT NULL,
    wait_key   {long_key} NOT NULL,
    reason     {key} NOT NULL,
    since      {int} NOT NULL,
    resumed_at {int},
    PRIMARY KEY (consumer, position)
) {clustered};
-- Resumed rows stay as history: what still waits must be found without walking over them.
CREATE INDEX parked_wait_key ON parked (consumer, resumed_at, wait_key);

CREATE TABLE dead_letter (
    id          {id} NOT NULL PRIMARY KEY,
    consumer    {word} NOT NULL,
    position    {int} NOT NULL,
    subject     {long_key} NOT NULL,
    state       {word} NOT NULL,
    reason      {text} NOT NULL,
    since       {int} NOT NULL,
    resolved_at {int}
) {clustered};
CREATE INDEX dead_letter_subject ON dead_letter (consumer, resolved_at, subject, position);

CREATE TABLE idempotency_key (
    actor           {key} NOT NULL,
    idempotency_key {key} NOT NULL,
    request_digest  {id} NOT NULL,
    status          {int} NOT NULL,
    body            {text} NOT NULL,
    created_at      {int} NOT NULL,
    PRIMARY KEY (actor, idempotency_key)
) {clustered};
CREATE INDEX idempotency_key_created_at ON idempotency_key (created_at);

CREATE TABLE seal (
    last_position {int} NOT NULL PRIMARY KEY,
    previous_hash {bytes} NOT NULL,
    hash          {bytes} NOT NULL,
    sealed_at     {int} NOT NULL
);

-- Who does a work that one process at a time does: a consumer, the timers, a relay. The token grows with every change of
-- hands; an effect that names an old one is refused. Rows stay.
CREATE TABLE lease (
    name       {word} NOT NULL PRIMARY KEY,
    holder     {key} NOT NULL,
    token      {int} NOT NULL,
    expires_at {int} NOT NULL
) {clustered};
