-- One row per partner. `doc` is the whole partner; the other columns are copies of what is searched or must be unique.
-- `email` is in lower case here: two spellings of one address are one partner.
CREATE TABLE partner (
    id         {id} NOT NULL PRIMARY KEY,
    version    {int} NOT NULL,
    kind       {word} NOT NULL,
    state      {word} NOT NULL,
    email      {key},
    created_at {int} NOT NULL,
    doc        {text} NOT NULL
) {clustered};
CREATE UNIQUE INDEX partner_email ON partner (kind, email);

-- Published: who may earn when, by the partner's id; and whom an external reference names, by `system:id`, which is
-- also what makes references unique.
CREATE TABLE pub_partner (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
CREATE TABLE pub_partner_reference (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};
