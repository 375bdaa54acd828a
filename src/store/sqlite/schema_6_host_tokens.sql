-- Tokens of role host. A constraint can't be altered, so the table is made anew; its rows stay as they are.

CREATE TABLE tokens_with_hosts (
    hash      BLOB PRIMARY KEY,
    id        BLOB NOT NULL UNIQUE,
    owner     TEXT REFERENCES owners (name),
    name      TEXT NOT NULL,
    role      TEXT NOT NULL
        CHECK (role IN ('admin', 'owner', 'secret-writer', 'policy-author', 'approver', 'auditor', 'host')),
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER,
    revoked   INTEGER,
    -- The token of its owner's that it was made with; none: an administrator made it, or whoever has the data folder.
    made_by   BLOB,
    CHECK ((role = 'admin') = (owner IS NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO tokens_with_hosts (hash, id, owner, name, role, created, expires, last_used, revoked)
SELECT hash, id, owner, name, role, created, expires, last_used, revoked FROM tokens;

DROP TABLE tokens;
ALTER TABLE tokens_with_hosts RENAME TO tokens;

CREATE INDEX tokens_by_owner ON tokens (owner, created);
