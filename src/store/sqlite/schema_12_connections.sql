-- Connections of measured guests. A first answer says which versions of which secrets, never a value.

CREATE TABLE connections (
    id            BLOB PRIMARY KEY,
    owner         TEXT NOT NULL REFERENCES owners (name),
    workload      BLOB NOT NULL,
    launch        BLOB NOT NULL,
    guest         TEXT NOT NULL,
    sealed_key    BLOB NOT NULL,
    created       INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    requests_left INTEGER NOT NULL CHECK (requests_left >= 0)
) STRICT;

CREATE INDEX connections_by_expiry ON connections (expires);

CREATE TABLE connection_answers (
    connection BLOB NOT NULL REFERENCES connections (id),
    guid       BLOB NOT NULL,
    id         TEXT NOT NULL,
    document   TEXT NOT NULL,
    PRIMARY KEY (connection, guid, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER connections_inserted_under_a_key BEFORE INSERT ON connections
WHEN substr(NEW.sealed_key, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER connections_updated_under_a_key BEFORE UPDATE OF sealed_key ON connections
WHEN substr(NEW.sealed_key, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;
