-- Version 5: holds that are confirmed or rejected, limits that are reset, acts that need two people.

CREATE TABLE holds_3 (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    owner    TEXT NOT NULL REFERENCES owners (name),
    workload BLOB NOT NULL,
    secrets  TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('open', 'pending', 'confirmed', 'rejected', 'closed')),
    created  INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

INSERT INTO holds_3 (id, owner, workload, secrets, state, created, document)
SELECT id, owner, workload, secrets, state, created, document FROM holds ORDER BY created, rowid;

CREATE TABLE hold_launches_3 (
    hold     BLOB NOT NULL REFERENCES holds_3 (id),
    launch   BLOB NOT NULL,
    decision BLOB NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (hold, launch)
) STRICT, WITHOUT ROWID;

INSERT INTO hold_launches_3 SELECT hold, launch, decision, requests FROM hold_launches;

DROP TABLE hold_launches;
DROP TABLE holds;
ALTER TABLE holds_3 RENAME TO holds;
ALTER TABLE hold_launches_3 RENAME TO hold_launches;

CREATE UNIQUE INDEX holds_open ON holds (owner, workload, secrets) WHERE state IN ('open', 'pending');
CREATE INDEX holds_by_owner ON holds (owner, seq);
CREATE INDEX holds_by_state ON holds (owner, state, seq);
CREATE INDEX hold_launches_by_launch ON hold_launches (launch);

-- Releases beyond the limit that a confirmation gives on one count, to launches of this workload that ask for these
-- secrets; a null digest and CEK: of any guest.
CREATE TABLE hold_allowances (
    hold          BLOB NOT NULL REFERENCES holds (id),
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    secret        TEXT NOT NULL,
    owner         TEXT NOT NULL REFERENCES owners (name),
    workload      BLOB NOT NULL,
    secrets       TEXT NOT NULL,
    launch_digest BLOB,
    cek           BLOB,
    additional    INTEGER NOT NULL CHECK (additional > 0),
    used          INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
    withdrawn     INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn >= 0),
    CHECK (used + withdrawn <= additional),
    PRIMARY KEY (hold, kind, name, secret)
) STRICT;

CREATE INDEX hold_allowances_left ON hold_allowances (owner, workload, secrets, kind, name, secret)
    WHERE additional > used + withdrawn;
CREATE INDEX hold_allowances_by_count ON hold_allowances (owner, kind, name, secret);

-- The limit that policies last set on a count, for people to see; nothing is decided by it.
ALTER TABLE counts ADD COLUMN seen_limit INTEGER;

CREATE TABLE limit_resets (
    owner    TEXT NOT NULL REFERENCES owners (name),
    number   INTEGER NOT NULL CHECK (number > 0),
    document TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER limit_resets_are_never_changed BEFORE UPDATE ON limit_resets
BEGIN SELECT RAISE(ABORT, 'the record of a reset is never changed'); END;

CREATE TRIGGER limit_resets_are_never_deleted BEFORE DELETE ON limit_resets
BEGIN SELECT RAISE(ABORT, 'the record of a reset is never deleted'); END;

-- How many people each owner asks for: the newest counts.
CREATE TABLE approvals_required (
    owner    TEXT NOT NULL REFERENCES owners (name),
    number   INTEGER NOT NULL CHECK (number > 0),
    document TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER approvals_required_are_never_changed BEFORE UPDATE ON approvals_required
BEGIN SELECT RAISE(ABORT, 'how many people were asked for is never changed'); END;

CREATE TRIGGER approvals_required_are_never_deleted BEFORE DELETE ON approvals_required
BEGIN SELECT RAISE(ABORT, 'how many people were asked for is never deleted'); END;

-- Acts that one person proposed and another must approve of.
CREATE TABLE proposals (
    owner    TEXT NOT NULL REFERENCES owners (name),
    act      TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (owner, act)
) STRICT, WITHOUT ROWID;
