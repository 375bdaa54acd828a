-- Version 1. Times are milliseconds since 1970-01-01T00:00:00Z; UUIDs and digests are blobs; documents are JSON.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE owners (
    name       TEXT PRIMARY KEY,
    generation INTEGER NOT NULL DEFAULT 0,
    bundle     BLOB,
    policies   TEXT NOT NULL DEFAULT '[]',
    created    INTEGER NOT NULL,
    FOREIGN KEY (name, bundle) REFERENCES bundles (owner, digest) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    hash    BLOB PRIMARY KEY,
    id      BLOB NOT NULL UNIQUE,
    owner   TEXT NOT NULL REFERENCES owners (name),
    name    TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE bundles (
    owner     TEXT NOT NULL REFERENCES owners (name),
    digest    BLOB NOT NULL,
    archive   BLOB NOT NULL,
    activated INTEGER NOT NULL,
    PRIMARY KEY (owner, digest)
) STRICT;

CREATE TABLE secrets (
    owner    TEXT NOT NULL REFERENCES owners (name),
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL,
    document TEXT NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT;

-- The UUID that each workload's name had last, so that one made again under its name goes on with its counts.
CREATE TABLE workload_uuids (
    owner TEXT NOT NULL REFERENCES owners (name),
    name  TEXT NOT NULL,
    uuid  BLOB NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

-- The last version of each secret that ever was, so that none is used twice.
CREATE TABLE secret_versions (
    owner TEXT NOT NULL REFERENCES owners (name),
    name  TEXT NOT NULL,
    last  INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE keysets (
    owner    TEXT NOT NULL REFERENCES owners (name),
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE firmware (
    owner    TEXT NOT NULL REFERENCES owners (name),
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    content  BLOB NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT;

CREATE TABLE workloads (
    uuid       BLOB PRIMARY KEY,
    owner      TEXT NOT NULL REFERENCES owners (name),
    name       TEXT NOT NULL,
    document   TEXT NOT NULL,
    candidates TEXT NOT NULL,
    UNIQUE (owner, name)
) STRICT;

CREATE TABLE launches (
    id             BLOB PRIMARY KEY,
    owner          TEXT NOT NULL REFERENCES owners (name),
    workload       BLOB NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('pending', 'used', 'exhausted', 'evicted')),
    policy         INTEGER NOT NULL,
    bucket         TEXT NOT NULL,
    pdh            BLOB NOT NULL,
    cek            BLOB NOT NULL,
    facts          TEXT NOT NULL,
    keys           BLOB NOT NULL,
    created        INTEGER NOT NULL,
    expires        INTEGER NOT NULL,
    tries_left     INTEGER NOT NULL CHECK (tries_left >= 0),
    answer_key     BLOB,
    answer_request BLOB,
    answer         BLOB
) STRICT;

CREATE INDEX launches_by_bucket ON launches (bucket, expires) WHERE state = 'pending';
CREATE INDEX launches_by_pdh ON launches (pdh, expires) WHERE state = 'pending';
CREATE INDEX launches_by_workload ON launches (workload, expires, policy, bucket) WHERE state = 'pending';
CREATE INDEX launches_ended ON launches (expires) WHERE state <> 'pending';
CREATE INDEX launches_evicted ON launches (pdh, expires) WHERE state = 'evicted';
CREATE INDEX launches_by_expiry ON launches (expires);
CREATE INDEX launches_to_wipe ON launches (expires) WHERE length(keys) > 0 OR answer_key IS NOT NULL;
CREATE INDEX launches_by_answer ON launches (answer_key) WHERE answer_key IS NOT NULL;

-- What release limits count. A row outlives what it counts for: only a reset lowers it.
CREATE TABLE counts (
    owner    TEXT NOT NULL REFERENCES owners (name),
    kind     TEXT NOT NULL CHECK (kind IN ('owner', 'workload', 'keyset', 'secret')),
    name     TEXT NOT NULL,
    secret   TEXT NOT NULL,
    released INTEGER NOT NULL CHECK (released >= 0),
    PRIMARY KEY (owner, kind, name, secret)
) STRICT, WITHOUT ROWID;

-- What policies see as `input.releases`.
CREATE TABLE release_totals (
    owner TEXT NOT NULL REFERENCES owners (name),
    scope TEXT NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (owner, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE release_times (
    owner TEXT NOT NULL REFERENCES owners (name),
    scope TEXT NOT NULL,
    time  INTEGER NOT NULL
) STRICT;

CREATE INDEX release_times_by_scope ON release_times (owner, scope, time);
CREATE INDEX release_times_by_time ON release_times (time);

CREATE TABLE decisions (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    owner    TEXT NOT NULL REFERENCES owners (name),
    workload BLOB NOT NULL,
    time     INTEGER NOT NULL,
    outcome  TEXT NOT NULL CHECK (outcome IN ('released', 'held', 'denied', 'refused')),
    document TEXT NOT NULL
) STRICT;

CREATE INDEX decisions_by_owner ON decisions (owner, seq);
CREATE INDEX decisions_by_outcome ON decisions (owner, outcome, seq);
CREATE INDEX decisions_by_workload ON decisions (owner, workload, seq);

CREATE TABLE holds (
    id       BLOB PRIMARY KEY,
    owner    TEXT NOT NULL REFERENCES owners (name),
    workload BLOB NOT NULL,
    secrets  TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('open', 'confirmed', 'rejected')),
    created  INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX holds_open ON holds (owner, workload, secrets) WHERE state = 'open';

CREATE TABLE hold_launches (
    hold     BLOB NOT NULL REFERENCES holds (id),
    launch   BLOB NOT NULL,
    decision BLOB NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (hold, launch)
) STRICT, WITHOUT ROWID;

CREATE INDEX hold_launches_by_launch ON hold_launches (launch);

CREATE TABLE ceks (
    key         BLOB PRIMARY KEY,
    chip        BLOB UNIQUE,
    certificate BLOB NOT NULL
) STRICT;

CREATE TABLE unknown_chips (
    chip  BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
