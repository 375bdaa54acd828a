-- Databases that went back to an older copy, what is forgotten by age, and what webhooks are to be told.

-- Each time that an older copy of the database was accepted. Since then an owner's counts are not known, but for those
-- that a person has set.
CREATE TABLE rollbacks (
    number   INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    seen     INTEGER NOT NULL CHECK (seen >= 0),
    accepted INTEGER NOT NULL CHECK (accepted >= 0)
) STRICT;

CREATE TRIGGER rollbacks_are_never_changed BEFORE UPDATE ON rollbacks
BEGIN SELECT RAISE(ABORT, 'the record of a rollback is never changed'); END;

CREATE TRIGGER rollbacks_are_never_deleted BEFORE DELETE ON rollbacks
BEGIN SELECT RAISE(ABORT, 'the record of a rollback is never deleted'); END;

-- The last one for each owner that there was then.
CREATE TABLE rolled_back (
    owner  TEXT PRIMARY KEY REFERENCES owners (name),
    number INTEGER NOT NULL REFERENCES rollbacks (number)
) STRICT, WITHOUT ROWID;

-- The last rollback after which a person said what the count is.
ALTER TABLE counts ADD COLUMN known_since INTEGER NOT NULL DEFAULT 0;

CREATE INDEX audit_kept ON audit_leaves (idx) WHERE idx IS NOT NULL AND record IS NOT NULL;
CREATE INDEX decisions_by_time ON decisions (time);

-- Whom to tell of what, as the configuration says; null owners: of all.
CREATE TABLE webhooks (
    name        TEXT PRIMARY KEY,
    holds       INTEGER NOT NULL,
    checkpoints INTEGER NOT NULL,
    owners      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook_outbox (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      BLOB NOT NULL UNIQUE,
    webhook TEXT NOT NULL,
    event   TEXT NOT NULL CHECK (event IN ('hold', 'checkpoint')),
    body    TEXT NOT NULL,
    created INTEGER NOT NULL,
    tries   INTEGER NOT NULL DEFAULT 0,
    due     INTEGER NOT NULL
) STRICT;

CREATE INDEX webhook_outbox_due ON webhook_outbox (webhook, due, seq);
