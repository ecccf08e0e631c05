-- One row per campaign. `doc` is the whole campaign; the other columns are copies of what is searched.
CREATE TABLE campaign (
    id         {id} NOT NULL PRIMARY KEY,
    version    {int} NOT NULL,
    state      {word} NOT NULL,
    created_at {int} NOT NULL,
    doc        {text} NOT NULL
) {clustered};

-- One row per enrolment of a partner; rows are never removed, so that a code is unique for ever. `planned_to` is the end
-- that was known from the beginning, `to_at` the one that holds now.
CREATE TABLE enrollment (
    id          {id} NOT NULL PRIMARY KEY,
    campaign_id {id} NOT NULL,
    partner_id  {id} NOT NULL,
    state       {word} NOT NULL,
    code        {key},
    from_at     {int},
    planned_to  {int},
    to_at       {int},
    opened_at   {int} NOT NULL,
    closed_at   {int}
) {clustered};
CREATE UNIQUE INDEX enrollment_code ON enrollment (code);
CREATE INDEX enrollment_campaign ON enrollment (campaign_id, partner_id, id);

-- Published: what decides attribution and commissions, by the campaign's id; a partner's enrolments, by campaign and
-- partner; whom a code credits; which campaign an external reference (`system:id`) names, which makes it unique.
CREATE TABLE pub_campaign (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
CREATE TABLE pub_enrollment (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
CREATE TABLE pub_code (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
CREATE TABLE pub_campaign_reference (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
