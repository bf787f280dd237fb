-- The journal's tables. No sequence numbers anything: a rolled back transaction would leave a gap.
CREATE TABLE log (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    deployment BYTEA NOT NULL,
    origin TEXT NOT NULL,
    public_key BYTEA NOT NULL
);
CREATE TABLE head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    audit_size BIGINT NOT NULL,
    frontier BYTEA NOT NULL,
    checkpoint TEXT NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE event (
    number BIGINT PRIMARY KEY,
    id BYTEA NOT NULL CONSTRAINT event_id UNIQUE,
    aggregate TEXT NOT NULL COLLATE "C",
    aggregate_sequence BIGINT NOT NULL,
    type TEXT NOT NULL,
    time BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    CONSTRAINT event_aggregate UNIQUE (aggregate, aggregate_sequence)
);
CREATE TABLE command (
    id BYTEA CONSTRAINT command_id PRIMARY KEY,
    verdict TEXT NOT NULL
);
CREATE TABLE effect (
    place BIGINT PRIMARY KEY,
    key TEXT NOT NULL COLLATE "C" CONSTRAINT effect_key UNIQUE,
    number BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed'))
);
CREATE INDEX effect_open ON effect (place) WHERE state = 'open';
CREATE TABLE audit (
    place BIGINT PRIMARY KEY,
    bytes BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL
);
CREATE TABLE tile (
    place BIGINT PRIMARY KEY,
    root BYTEA NOT NULL,
    checkpoint TEXT NOT NULL
);
CREATE TABLE process_checkpoint (
    name TEXT PRIMARY KEY COLLATE "C",
    number BIGINT NOT NULL
) WITH (fillfactor = 50);
-- Whose turn it is to tell the world, until when by this server's clock, and how far it is told.
CREATE TABLE turn (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder BYTEA,
    until TIMESTAMPTZ NOT NULL,
    number BIGINT NOT NULL,
    audit_size BIGINT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO turn (id, holder, until, number, audit_size) VALUES (1, NULL, '-infinity', 0, 0);
