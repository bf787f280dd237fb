-- Tells a subscription from one of the same name before it; those made before have the id of zeros.
ALTER TABLE subscription ADD COLUMN id TEXT NOT NULL
    DEFAULT '00000000-0000-0000-0000-000000000000';
