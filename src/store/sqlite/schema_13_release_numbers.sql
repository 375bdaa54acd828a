-- The number of a release among those of its scope: how many are recent is then one look, and no counting.
ALTER TABLE release_times ADD COLUMN nth INTEGER NOT NULL DEFAULT 0;

-- Those that are there are the last ones of their scope; older ones were forgotten.
UPDATE release_times SET nth = numbered.nth
FROM (
    SELECT release_times.rowid AS place, release_totals.total - count(*) OVER whole + row_number() OVER ordered AS nth
    FROM release_times JOIN release_totals USING (owner, scope)
    WINDOW whole AS (PARTITION BY release_times.owner, release_times.scope),
           ordered AS (PARTITION BY release_times.owner, release_times.scope ORDER BY time, release_times.rowid)
) AS numbered
WHERE release_times.rowid = numbered.place;

DROP INDEX release_times_by_scope;
CREATE INDEX release_times_by_scope ON release_times (owner, scope, time, nth);

-- A program of before that runs on numbers none, and may be behind in time. It raises the total first.
CREATE TRIGGER release_times_are_numbered AFTER INSERT ON release_times WHEN NEW.nth = 0
BEGIN
    UPDATE release_times SET time = NEW.time WHERE owner = NEW.owner AND scope = NEW.scope AND time > NEW.time;
    UPDATE release_times SET nth = coalesce(
        (SELECT total FROM release_totals WHERE owner = NEW.owner AND scope = NEW.scope), 1)
    WHERE rowid = NEW.rowid;
END;
