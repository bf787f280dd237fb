-- Leaf hashes of audit records that were removed by their age, a tile of 256 in each row.
CREATE TABLE removed_tile (
    place BIGINT PRIMARY KEY,
    hashes BYTEA NOT NULL
);
