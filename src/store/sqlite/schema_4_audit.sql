-- The audit log: a Merkle tree whose leaves are the records' bytes, written with what they tell of.

-- A leaf without an index is pending: it is written, and the sequencer gives it its place.
CREATE TABLE audit_leaves (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    idx    INTEGER UNIQUE CHECK (idx >= 0),
    id     BLOB NOT NULL UNIQUE,
    owner  TEXT,
    hash   BLOB NOT NULL,
    record TEXT
) STRICT;

CREATE INDEX audit_pending ON audit_leaves (seq) WHERE idx IS NULL;

CREATE TRIGGER audit_leaves_are_never_changed BEFORE UPDATE ON audit_leaves
WHEN OLD.hash <> NEW.hash OR OLD.id <> NEW.id OR OLD.owner IS NOT NEW.owner
    OR (OLD.idx IS NOT NULL AND OLD.idx IS NOT NEW.idx)
    OR (NEW.record IS NOT NULL AND OLD.record IS NOT NEW.record)
BEGIN SELECT RAISE(ABORT, 'a record of the audit log is never changed'); END;

CREATE TRIGGER audit_leaves_are_never_deleted BEFORE DELETE ON audit_leaves
BEGIN SELECT RAISE(ABORT, 'a record of the audit log is never deleted'); END;

-- Hashes of perfect subtrees, every eighth level above the leaves.
CREATE TABLE audit_nodes (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- One row: size and root of the tree, and what an append needs of it.
CREATE TABLE audit_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    size     INTEGER NOT NULL CHECK (size >= 0),
    root     BLOB NOT NULL,
    subtrees BLOB NOT NULL
) STRICT;

-- The root of the tree without leaves is SHA-256 of nothing.
INSERT INTO audit_head VALUES
    (1, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', x'');

-- Signed notes; the newest is the largest.
CREATE TABLE audit_checkpoints (
    size    INTEGER PRIMARY KEY CHECK (size > 0),
    created INTEGER NOT NULL,
    note    TEXT NOT NULL
) STRICT;
