-- Idempotency keys of the owner API. `act` tells two tries of one request apart; without a status, it was done and the
-- answer was not kept.

CREATE TABLE idempotency_keys (
    key     BLOB NOT NULL PRIMARY KEY,
    request BLOB NOT NULL,
    act     BLOB NOT NULL,
    owner   TEXT,
    expires INTEGER NOT NULL,
    status  INTEGER,
    body    BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_owner ON idempotency_keys (owner, expires);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires);
