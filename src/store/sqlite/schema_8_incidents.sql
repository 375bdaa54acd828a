-- Freezes, the inventory of platforms, and what decisions are found by when something has gone wrong.

-- Without an owner it is the administrators', and stops everybody's releases. `name` is that of the target, a
-- workload's UUID, a fingerprint in hexadecimal; empty for the server.
CREATE TABLE freezes (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    owner    TEXT REFERENCES owners (name),
    kind     TEXT NOT NULL CHECK (kind IN ('server', 'owner', 'workload', 'secret', 'platform', 'product')),
    name     TEXT NOT NULL,
    lifted   INTEGER,
    document TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX freezes_in_force ON freezes (kind, name, coalesce(owner, '')) WHERE lifted IS NULL;

CREATE TRIGGER freezes_are_never_deleted BEFORE DELETE ON freezes
BEGIN SELECT RAISE(ABORT, 'the record of a freeze is never deleted'); END;

ALTER TABLE owners ADD COLUMN platforms TEXT NOT NULL DEFAULT 'any' CHECK (platforms IN ('any', 'enrolled'));

-- Whether the launch counts in the inventory already.
ALTER TABLE launches ADD COLUMN measured INTEGER NOT NULL DEFAULT 0;

CREATE TABLE platforms (
    owner    TEXT NOT NULL REFERENCES owners (name),
    cek      BLOB NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('seen', 'enrolled', 'refused')),
    last     INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (owner, cek)
) STRICT, WITHOUT ROWID;

CREATE INDEX platforms_to_forget ON platforms (owner, last) WHERE standing = 'seen';

-- What a decision with something attested was about. Kinds: `platform` (a CEK's or OCA's fingerprint), `digest`,
-- and of releases `secret` (its name), `version` (name@version) and `policy` (a bundle's digest).
CREATE TABLE decision_subjects (
    owner TEXT NOT NULL,
    kind  TEXT NOT NULL,
    value TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (owner, kind, value, seq)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'platform', json_extract(document, '$.input.platform.fingerprints.cek'), seq FROM decisions
WHERE outcome <> 'refused' AND json_extract(document, '$.input.attested.launch_digest') IS NOT NULL;

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'platform', json_extract(document, '$.input.platform.fingerprints.oca'), seq FROM decisions
WHERE outcome <> 'refused' AND json_extract(document, '$.input.attested.launch_digest') IS NOT NULL;

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'digest', json_extract(document, '$.input.attested.launch_digest'), seq FROM decisions
WHERE outcome <> 'refused' AND json_extract(document, '$.input.attested.launch_digest') IS NOT NULL;

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'secret', json_extract(value, '$.name'), seq
FROM decisions, json_each(document, '$.released') WHERE outcome = 'released';

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'version', json_extract(value, '$.name') || '@' || json_extract(value, '$.version'), seq
FROM decisions, json_each(document, '$.released') WHERE outcome = 'released';

INSERT OR IGNORE INTO decision_subjects
SELECT owner, 'policy', json_extract(value, '$.bundle'), seq
FROM decisions, json_each(document, '$.policies')
WHERE outcome = 'released' AND json_extract(value, '$.bundle') IS NOT NULL;
