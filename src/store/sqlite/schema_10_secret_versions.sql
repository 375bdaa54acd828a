-- Versions of secrets that were current before; the current one is in `secrets`. A purged one has no value any more.

CREATE TABLE earlier_secrets (
    owner     TEXT NOT NULL REFERENCES owners (name),
    name      TEXT NOT NULL,
    version   INTEGER NOT NULL,
    document  TEXT NOT NULL,
    sealed    BLOB,
    purged    INTEGER,
    purged_by TEXT,
    PRIMARY KEY (owner, name, version),
    CHECK ((sealed IS NULL) = (purged IS NOT NULL))
) STRICT;

CREATE TRIGGER earlier_secrets_inserted_under_a_key BEFORE INSERT ON earlier_secrets
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER earlier_secrets_updated_under_a_key BEFORE UPDATE OF sealed ON earlier_secrets
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;
