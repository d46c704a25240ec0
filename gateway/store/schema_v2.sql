-- From version 1 to 2. Every statement runs in the one transaction of the migration, on a database with rows in it: a
-- new column needs a default that is right for what was written before.

-- How often this program ended of itself in an exchange for this job (invariant 12).
ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

-- How many of its tries failed for want of the line.
ALTER TABLE jobs ADD COLUMN line_tries INTEGER NOT NULL DEFAULT 0;

-- What meters said of themselves before and after an update, as JSON.
ALTER TABLE jobs ADD COLUMN health TEXT NOT NULL DEFAULT '[]';

-- The manifest of a campaign's image (store/floors.py), what it says of meters, and whose signatures it carries.
ALTER TABLE campaigns ADD COLUMN manifest TEXT NOT NULL DEFAULT '';
ALTER TABLE campaigns ADD COLUMN signed_by TEXT NOT NULL DEFAULT '[]';
ALTER TABLE campaigns ADD COLUMN profiles TEXT NOT NULL DEFAULT '[]';
ALTER TABLE campaigns ADD COLUMN from_versions TEXT NOT NULL DEFAULT '[]';

-- Manifests in their envelopes, as they came, by the digest of the envelope; number rises with the time of coming.
CREATE TABLE manifests (
  number INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  sha256 TEXT NOT NULL,
  envelope TEXT NOT NULL,
  stored_at TEXT NOT NULL
) STRICT;
CREATE INDEX manifests_by_image ON manifests (sha256, number);

-- The highest sequence of a signed manifest that was accepted for each profile; in floors.json as well.
CREATE TABLE floors (
  profile TEXT PRIMARY KEY,
  sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the attempts to get the image of a campaign cost so far, and how far they got.
ALTER TABLE campaigns ADD COLUMN fetch_spent_s REAL NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN fetch_octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN fetch_done INTEGER NOT NULL DEFAULT 0;

-- The meter may have this time in its own schedule.
ALTER TABLE transfers ADD COLUMN scheduled_at TEXT;

-- What is left of jobs that were forgotten (store/pruning.py), one row for each meter: what `job` left in it, nothing
-- where that was an update, and the version that it reported in `version_job`. Both are numbers of jobs.
CREATE TABLE remnants (
  meter_id TEXT PRIMARY KEY,
  version TEXT NOT NULL DEFAULT '',
  version_job INTEGER NOT NULL,
  job INTEGER NOT NULL,
  sha256 TEXT,
  identifier BLOB,
  image_size INTEGER,
  block_size INTEGER,
  initiates INTEGER,
  initiated_over INTEGER,
  initiate_answered INTEGER,
  acked BLOB,
  ceiling INTEGER,
  verifies INTEGER,
  verify_waited_s REAL,
  activate_decided INTEGER,
  scheduled_at TEXT
) STRICT, WITHOUT ROWID;

-- Ids of campaigns that were forgotten: none is used twice.
CREATE TABLE campaign_ids (
  id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- From when on a campaign is kept whose finished_at came of a clock that was wrong.
ALTER TABLE campaigns ADD COLUMN kept_since TEXT;
CREATE INDEX campaigns_ended ON campaigns (finished_at) WHERE finished_at IS NOT NULL;

-- So long the result of a verification was waited for when the job was set aside.
ALTER TABLE transfers ADD COLUMN verify_waited_s REAL NOT NULL DEFAULT 0;

-- When it is expected to have ended (plan/eta.py).
ALTER TABLE campaigns ADD COLUMN eta TEXT;

-- Meters that were put by command, in the words of the configuration (JSON); number rises with the time of putting.
CREATE TABLE meters (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  settings TEXT NOT NULL
) STRICT;
