-- From version 1 to 2. Every statement runs in the one transaction of the migration, on a database with rows in it: a
-- new column needs a default that is right for what was written before.

-- How often this program ended of itself in an exchange for this job (invariant 12).
ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

-- What meters said of themselves before and after an update, as JSON.
ALTER TABLE jobs ADD COLUMN health TEXT NOT NULL DEFAULT '[]';
