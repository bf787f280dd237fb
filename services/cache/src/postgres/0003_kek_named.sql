-- What is sealed names a KEK that is there: a store-sync that still knows one that went writes nothing under it, and
-- none goes while a row names it. Rows from before are not looked at.
ALTER TABLE version ADD CONSTRAINT version_kek FOREIGN KEY (key_id) REFERENCES kek (id) NOT VALID;
ALTER TABLE stash ADD CONSTRAINT stash_kek FOREIGN KEY (key_id) REFERENCES kek (id) NOT VALID;
ALTER TABLE store_key ADD CONSTRAINT store_key_kek FOREIGN KEY (key_id) REFERENCES kek (id) NOT VALID;
