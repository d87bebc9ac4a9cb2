-- node.db: everything a site knows beside the databases themselves.
-- Numbers (database.number, branch.number) are this site's own; ids go over the wire.

CREATE TABLE setting (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

-- Membership: signed records.
CREATE TABLE member_record (
  hash   BLOB PRIMARY KEY,            -- BLAKE3 of the record
  record BLOB NOT NULL                -- with its signature, as on the wire
) WITHOUT ROWID;

CREATE TABLE invitation (
  id          BLOB PRIMARY KEY,
  secret_hash BLOB NOT NULL,
  residues    BLOB NOT NULL,          -- the share of key residues that it hands over
  expires_ms  INTEGER NOT NULL,
  wrong_tries INTEGER NOT NULL DEFAULT 0,
  admitted    BLOB                    -- the public key of the site that used it
) WITHOUT ROWID;

-- What was heard from other sites last.
CREATE TABLE peer (
  site           BLOB PRIMARY KEY,
  last_seen_ms   INTEGER NOT NULL,
  address        TEXT,
  sent_bytes     INTEGER NOT NULL DEFAULT 0,
  received_bytes INTEGER NOT NULL DEFAULT 0,
  clock_offset_ms INTEGER
) WITHOUT ROWID;

CREATE TABLE database (
  number      INTEGER PRIMARY KEY,
  database_id BLOB NOT NULL UNIQUE,
  name        TEXT NOT NULL,
  site        BLOB NOT NULL,          -- the site whose database it is (mirror mode)
  mode        TEXT NOT NULL,
  state       TEXT NOT NULL,          -- attached (here), mirrored (another's), detached
  path        TEXT NOT NULL,
  branch      INTEGER                 -- the branch that this copy follows or writes
);

CREATE TABLE branch (
  number    INTEGER PRIMARY KEY,
  branch    BLOB NOT NULL UNIQUE,
  database  INTEGER NOT NULL REFERENCES database(number),
  opening   BLOB NOT NULL,            -- the signed opening record, as on the wire
  held      INTEGER NOT NULL,         -- the highest sequence held without a gap
  hash      BLOB NOT NULL,            -- of the line up to held
  timestamp INTEGER NOT NULL,         -- of batch held
  base      INTEGER NOT NULL,         -- the sequence at which content began; 0: empty from the start
  base_held INTEGER NOT NULL,         -- whether that content is durable here
  applied   INTEGER NOT NULL,         -- the highest sequence applied to this site's copy
  as_of_ms  INTEGER NOT NULL,         -- the time of that batch
  ended     INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE batch (
  branch      INTEGER NOT NULL,
  sequence    INTEGER NOT NULL,
  more        INTEGER NOT NULL,       -- becomes visible only together with the next
  hash        BLOB NOT NULL,          -- of the line up to this batch
  signature   BLOB,                   -- the origin's over that, where a flight ended
  frame       BLOB NOT NULL,          -- the bytes of the wire
  PRIMARY KEY (branch, sequence)
) WITHOUT ROWID;

-- Bases: signed manifests. Their chunks lie in DIR/snapshots.
CREATE TABLE manifest (
  branch   INTEGER PRIMARY KEY,
  manifest BLOB NOT NULL              -- with its signature, as on the wire
);

-- How far other sites are, as they said themselves or as a third one told.
CREATE TABLE progress (
  branch   INTEGER NOT NULL,
  site     BLOB NOT NULL,
  durable  INTEGER NOT NULL,
  applied  INTEGER NOT NULL,
  as_of_ms INTEGER NOT NULL,
  PRIMARY KEY (branch, site)
) WITHOUT ROWID;

-- Rows of attached databases as last harvested: what a harvest compares with.
CREATE TABLE image (
  database  INTEGER NOT NULL,
  tbl       INTEGER NOT NULL,         -- table.number
  key       BLOB NOT NULL,            -- packed
  stamp     INTEGER NOT NULL,         -- version of the row: timestamp
  origin    INTEGER NOT NULL,         --   and site, 0 being this one
  overrides BLOB,                     -- per-column versions where they differ (shared mode)
  row       BLOB NOT NULL,            -- packed values of all columns
  PRIMARY KEY (database, tbl, key)
) WITHOUT ROWID;

-- The tables of attached databases: numbers that triggers write into the log.
CREATE TABLE captured_table (
  database INTEGER NOT NULL,
  number   INTEGER NOT NULL,
  name     TEXT NOT NULL,
  PRIMARY KEY (database, number)
) WITHOUT ROWID;

-- Where the last harvest of an attached database left its file.
CREATE TABLE position (
  database       INTEGER PRIMARY KEY,
  fence_id       INTEGER NOT NULL,
  fence_nonce    INTEGER NOT NULL,
  schema_version INTEGER NOT NULL,
  device         INTEGER NOT NULL,
  inode          INTEGER NOT NULL,
  schema         BLOB NOT NULL,       -- the schema the images are written in
  schema_at      INTEGER NOT NULL     -- the sequence that brought it
);

CREATE TABLE alarm (
  id       INTEGER PRIMARY KEY,
  subject  TEXT NOT NULL UNIQUE,      -- one alarm a subject
  severity TEXT NOT NULL,
  what     TEXT NOT NULL,
  remedy   TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  database INTEGER
);
