-- Tokens with roles, an end and a last use. Those there were belong to owners and may do all that is theirs.

CREATE TABLE tokens_with_roles (
    hash      BLOB PRIMARY KEY,
    id        BLOB NOT NULL UNIQUE,
    owner     TEXT REFERENCES owners (name),
    name      TEXT NOT NULL,
    role      TEXT NOT NULL
        CHECK (role IN ('admin', 'owner', 'secret-writer', 'policy-author', 'approver', 'auditor')),
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER,
    revoked   INTEGER,
    CHECK ((role = 'admin') = (owner IS NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO tokens_with_roles (hash, id, owner, name, role, created)
SELECT hash, id, owner, name, 'owner', created FROM tokens;

DROP TABLE tokens;
ALTER TABLE tokens_with_roles RENAME TO tokens;

CREATE INDEX tokens_by_owner ON tokens (owner, created);
