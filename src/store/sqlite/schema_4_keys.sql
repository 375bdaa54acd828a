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
