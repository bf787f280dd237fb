-- The cache's tables. A destroyed version keeps its row, without key and ciphertext, so that it can
-- never be inserted again.
CREATE TABLE deployment (id BYTEA NOT NULL);
CREATE TABLE kek (
    id BYTEA PRIMARY KEY,
    sealed BYTEA NOT NULL,
    wraps BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'old')),
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX kek_one_current ON kek (state) WHERE state = 'current';
CREATE TABLE version (
    secret BYTEA NOT NULL,
    version BIGINT NOT NULL,
    token BYTEA,
    state TEXT NOT NULL CHECK (state IN ('live', 'destroyed')),
    suite BIGINT,
    key_id BYTEA,
    wrapped_dek BYTEA,
    nonce BYTEA,
    ciphertext BYTEA,
    commitment BYTEA,
    PRIMARY KEY (secret, version),
    UNIQUE (secret, token)
);
CREATE TABLE stash (
    token BYTEA PRIMARY KEY,
    put_at BIGINT NOT NULL,
    suite BIGINT NOT NULL,
    key_id BYTEA NOT NULL,
    wrapped_dek BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    commitment BYTEA NOT NULL
);
