-- The state of one gateway. Times are UTC text of one width (2026-11-22T07:49:00.000000Z), so that they sort.
-- Columns that carry a field of a noun in gateway/model have its name.

CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every command that changed something or was answered over MQTT, with its newest reply.
CREATE TABLE commands (
  cmd_id TEXT PRIMARY KEY COLLATE NOCASE,
  verb TEXT NOT NULL,
  body_sha256 TEXT NOT NULL,
  who TEXT NOT NULL,
  reply_topic TEXT NOT NULL,
  correlation BLOB NOT NULL,
  expires TEXT NOT NULL,
  reply TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX commands_by_expiry ON commands (expires);

-- Reads that somebody waits for, in the order of asking.
CREATE TABLE errands (
  number INTEGER PRIMARY KEY,
  cmd_id TEXT NOT NULL UNIQUE COLLATE NOCASE REFERENCES commands,
  verb TEXT NOT NULL,
  port TEXT NOT NULL,
  meter_id TEXT NOT NULL,
  args TEXT NOT NULL,
  running INTEGER NOT NULL DEFAULT 0,
  cursor TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE campaigns (
  number INTEGER PRIMARY KEY,
  cmd_id TEXT NOT NULL COLLATE NOCASE,
  id TEXT NOT NULL UNIQUE,
  sha256 TEXT NOT NULL,
  identifier BLOB NOT NULL,
  meters TEXT NOT NULL,
  created_at TEXT NOT NULL,
  url TEXT NOT NULL,
  image_size INTEGER,
  expect_version TEXT NOT NULL,
  firmware_object TEXT NOT NULL,
  take_over INTEGER NOT NULL,
  dry_run INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  delivery TEXT NOT NULL,
  window TEXT NOT NULL,
  activate_when TEXT NOT NULL,
  activate_window TEXT NOT NULL,
  activate_at TEXT,
  approved INTEGER NOT NULL,
  not_after TEXT,
  canary INTEGER NOT NULL,
  canary_soak_s REAL NOT NULL,
  wave INTEGER NOT NULL,
  max_failures INTEGER,
  failures_accepted INTEGER NOT NULL,
  released INTEGER NOT NULL,
  paused TEXT,
  opens_at TEXT,
  state TEXT NOT NULL,
  code TEXT,
  message TEXT NOT NULL,
  rev INTEGER NOT NULL,
  fetch_tries INTEGER NOT NULL,
  fetch_next_try_at TEXT,
  finished_at TEXT
) STRICT;
CREATE INDEX campaigns_open ON campaigns (number) WHERE finished_at IS NULL;

-- finished_at is set exactly when the state is terminal. number rises with the order of acceptance.
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY,
  campaign_id TEXT NOT NULL REFERENCES campaigns (id),
  meter_id TEXT NOT NULL,
  port TEXT NOT NULL,
  place INTEGER NOT NULL,
  state TEXT NOT NULL,
  code TEXT,
  message TEXT NOT NULL,
  detail TEXT NOT NULL,
  tries INTEGER NOT NULL,
  next_try_at TEXT,
  blocks_done INTEGER NOT NULL,
  blocks_total INTEGER NOT NULL,
  blocks_sent INTEGER NOT NULL,
  blocks_resent INTEGER NOT NULL,
  blocks_broadcast INTEGER NOT NULL,
  bytes_sent INTEGER NOT NULL,
  transfer_s REAL NOT NULL,
  delivery TEXT NOT NULL,
  version_before TEXT NOT NULL,
  version_after TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT,
  activated_at TEXT,
  transfer_enabled INTEGER NOT NULL,
  findings TEXT,
  rev INTEGER NOT NULL,
  UNIQUE (campaign_id, meter_id)
) STRICT;
-- A meter belongs to one open campaign at a time.
CREATE UNIQUE INDEX jobs_open_by_meter ON jobs (meter_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_open_by_port ON jobs (port, number) WHERE finished_at IS NULL;
CREATE INDEX jobs_by_meter ON jobs (meter_id, number);

-- What is durable about the image in the meter of a job, written before the bytes it speaks of leave.
CREATE TABLE transfers (
  job INTEGER PRIMARY KEY REFERENCES jobs (number),
  sha256 TEXT NOT NULL,
  identifier BLOB NOT NULL,
  image_size INTEGER NOT NULL,
  block_size INTEGER NOT NULL,
  initiates INTEGER NOT NULL,
  initiated_over INTEGER NOT NULL,
  initiate_answered INTEGER NOT NULL,
  acked BLOB NOT NULL,
  ceiling INTEGER NOT NULL,
  verifies INTEGER NOT NULL,
  activate_decided INTEGER NOT NULL
) STRICT;

-- The audit. The newest row is never deleted, so that seq has no gap within an epoch.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  ts TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;

-- What must still reach the broker, in order of id; of a retained topic only the newest. An id never comes again, even
-- after the table was empty: the uplink goes on from the last one it sent.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  retain INTEGER NOT NULL,
  correlation BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_retained ON outbox (topic) WHERE retain = 1;

-- The next invocation counter that no message has used, of each key (store/counters.py); in counters.json as well.
CREATE TABLE counters (
  sequence TEXT PRIMARY KEY,
  next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Lines that are lent to another tool for a time.
CREATE TABLE holds (
  port TEXT PRIMARY KEY,
  until TEXT NOT NULL,
  who TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What an operator should look at; as long as a row is here, its document stands retained at the broker.
CREATE TABLE alarms (
  code TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  port TEXT NOT NULL,
  message TEXT NOT NULL,
  since TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Meters that are left alone: they refused us, or we them. digest is scrypt over the keys that failed, with salt: it
-- tells whether others stand in keys.toml now, and nothing else.
CREATE TABLE parked (
  meter_id TEXT PRIMARY KEY,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  parked_at TEXT NOT NULL,
  salt BLOB NOT NULL,
  digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What was learned of how meters take frames (worker/learning.py); a hint, which may be lost.
CREATE TABLE tunings (
  meter_id TEXT PRIMARY KEY,
  max_info INTEGER NOT NULL,
  window INTEGER NOT NULL,
  snrm_parameters INTEGER NOT NULL,
  wait_s REAL NOT NULL,
  under TEXT NOT NULL,
  since TEXT NOT NULL,
  why TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Windows that were set here, as JSON; those of the configuration hold before them.
CREATE TABLE windows (
  name TEXT PRIMARY KEY,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
