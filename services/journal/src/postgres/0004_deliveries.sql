-- How far receivers outside came, and whose turn each is until when by this server's clock.
CREATE TABLE delivery (
    owner TEXT PRIMARY KEY COLLATE "C",
    number BIGINT NOT NULL,
    holder BYTEA NOT NULL,
    until TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
-- What could not be delivered, or not be read of what came.
CREATE TABLE letter (
    id TEXT PRIMARY KEY COLLATE "C",
    owner TEXT NOT NULL COLLATE "C",
    heading TEXT NOT NULL,
    time BIGINT NOT NULL,
    reason TEXT NOT NULL,
    body BYTEA NOT NULL
);
