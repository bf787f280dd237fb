-- Named places in the log, kept for clients.
CREATE TABLE subscription (
    name TEXT PRIMARY KEY COLLATE "C",
    number BIGINT NOT NULL
);
