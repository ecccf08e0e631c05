-- What consumers behind a broker have handled: a broker delivers at least once, and this is how an effect happens once.
CREATE TABLE inbox (
    consumer   {key} NOT NULL,
    message_id {key} NOT NULL,
    claimed_at {int} NOT NULL,
    PRIMARY KEY (consumer, message_id)
) {clustered};
CREATE INDEX inbox_claimed_at ON inbox (claimed_at);
