-- Version 2: revisions of policies, and keys that sign them.

-- Each time that a bundle became an owner's active one. The newest is active.
CREATE TABLE revisions (
    owner      TEXT NOT NULL REFERENCES owners (name),
    number     INTEGER NOT NULL CHECK (number > 0),
    digest     BLOB NOT NULL,
    document   TEXT NOT NULL,
    signatures BLOB,
    PRIMARY KEY (owner, number),
    FOREIGN KEY (owner, digest) REFERENCES bundles (owner, digest)
) STRICT;

CREATE INDEX revisions_by_digest ON revisions (owner, digest, number);

CREATE TRIGGER revisions_are_never_changed BEFORE UPDATE ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never changed'); END;

CREATE TRIGGER revisions_are_never_deleted BEFORE DELETE ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never deleted'); END;

CREATE TABLE signing_keys (
    owner    TEXT NOT NULL REFERENCES owners (name),
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

-- Bundles that were active before there were revisions: version 1 knew when each last became active, not by whom.
INSERT INTO revisions (owner, number, digest, document)
SELECT owner, number, digest, json_object(
    'number', number,
    'digest', lower(hex(digest)),
    'activated', strftime('%Y-%m-%dT%H:%M:%S', activated / 1000, 'unixepoch')
        || printf('.%03dZ', activated % 1000),
    'action', 'apply')
FROM (
    SELECT b.owner, b.digest, b.activated,
        row_number() OVER (PARTITION BY b.owner ORDER BY b.digest IS o.bundle, b.activated, b.rowid) AS number
    FROM bundles AS b JOIN owners AS o ON o.name = b.owner
);
