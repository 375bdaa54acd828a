-- The keys that stored values are sealed under. Where they are, never what they are.

CREATE TABLE sealing_keys (
    id       BLOB PRIMARY KEY CHECK (length(id) = 8),
    state    TEXT NOT NULL CHECK (state IN ('active', 'retiring', 'retired')),
    location TEXT NOT NULL,
    created  INTEGER NOT NULL,
    retired  INTEGER,
    CHECK ((state = 'retired') = (retired IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX sealing_keys_active ON sealing_keys (state) WHERE state = 'active';

-- The one key that there was.
INSERT INTO sealing_keys (id, state, location, created)
SELECT unhex(id.value), 'active', json_object('file', file.value), coalesce((SELECT min(created) FROM owners), 0)
FROM meta AS id JOIN meta AS file WHERE id.key = 'key_id' AND file.key = 'key_file';

DELETE FROM meta WHERE key IN ('key_id', 'key_file');

-- The key that signs the audit log, sealed as all is. It was base64 in `meta`: four characters are three bytes.
CREATE TABLE audit_log_key (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    sealed BLOB NOT NULL
) STRICT;

WITH RECURSIVE
    text (value, bytes) AS (
        SELECT replace(value, '=', 'A'), length(value) / 4 * 3 - (length(value) - length(replace(value, '=', '')))
        FROM meta WHERE key = 'audit_log_key'
    ),
    digits (set64) AS (SELECT 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'),
    decoded (at, hex) AS (
        SELECT 1, '' FROM text
        UNION ALL
        SELECT at + 4, hex || printf('%06X',
            ((instr(set64, substr(value, at, 1)) - 1) << 18) + ((instr(set64, substr(value, at + 1, 1)) - 1) << 12)
            + ((instr(set64, substr(value, at + 2, 1)) - 1) << 6) + instr(set64, substr(value, at + 3, 1)) - 1)
        FROM decoded, text, digits WHERE at < length(value)
    )
INSERT INTO audit_log_key
SELECT 1, unhex(substr(hex, 1, bytes * 2)) FROM decoded, text WHERE at >= length(value);

DELETE FROM meta WHERE key = 'audit_log_key';

-- Once a key is retired nothing that is sealed under it comes in, whoever writes: bytes 2 to 9 are the key's id.
CREATE TRIGGER secrets_inserted_under_a_key BEFORE INSERT ON secrets
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER secrets_updated_under_a_key BEFORE UPDATE OF sealed ON secrets
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER launches_inserted_under_a_key BEFORE INSERT ON launches
WHEN substr(NEW.keys, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER launches_updated_under_a_key BEFORE UPDATE OF keys, answer ON launches
WHEN substr(NEW.keys, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
    OR substr(NEW.answer, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER audit_log_key_inserted_under_a_key BEFORE INSERT ON audit_log_key
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;

CREATE TRIGGER audit_log_key_updated_under_a_key BEFORE UPDATE OF sealed ON audit_log_key
WHEN substr(NEW.sealed, 2, 8) IN (SELECT id FROM sealing_keys WHERE state = 'retired')
BEGIN SELECT RAISE(ABORT, 'sealed under a retired key'); END;
