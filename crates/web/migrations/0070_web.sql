-- API keys: the secret is stored only as its digest.
CREATE TABLE api_key (
    id            {id} NOT NULL PRIMARY KEY,
    name          {key} NOT NULL,
    shown         {key} NOT NULL,
    secret_digest {bytes} NOT NULL,
    scopes        {text} NOT NULL,
    created_at    {int} NOT NULL,
    expires_at    {int},
    revoked_at    {int}
) {clustered};

-- One row: signs the cursors of lists, so that they cannot be made up.
CREATE TABLE web_secret (
    id     {int} NOT NULL PRIMARY KEY,
    secret {bytes} NOT NULL
);
