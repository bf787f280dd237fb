-- Key pairs to which provided values are sealed, each sealed like a version.
CREATE TABLE store_key (
    generation BIGINT PRIMARY KEY,
    made_at BIGINT NOT NULL,
    suite BIGINT NOT NULL,
    key_id BYTEA NOT NULL,
    wrapped_dek BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    commitment BYTEA NOT NULL
);
