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
  stamp     INTEGER NOT NULL,         -- the timestamp of its newest change (mirror mode)
  birth     BLOB,                     -- shared mode: which of several rows of one key it is
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

-- Shared mode: what all sites say of each row, merged, and what the application sees of it.

-- Sites by the numbers that packed states name them with.
CREATE TABLE site_number (
  number INTEGER PRIMARY KEY,
  site   BLOB NOT NULL UNIQUE
);

-- Columns by name, also those that the local schema lacks.
CREATE TABLE merged_column (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,          -- captured_table.number
  number   INTEGER NOT NULL,
  name     TEXT NOT NULL,
  PRIMARY KEY (database, tbl, number),
  UNIQUE (database, tbl, name)
) WITHOUT ROWID;

CREATE TABLE merged_row (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,             -- packed, bit for bit
  birth    BLOB NOT NULL,             -- packed version; empty where the key alone is the identity
  state    BLOB NOT NULL,             -- packed, with the births of the rows that it refers to
  outcome  BLOB,                      -- what the application sees; NULL: the row as meant
  PRIMARY KEY (database, tbl, key, birth)
) WITHOUT ROWID;

-- Who asks for a unique value, or shows it. Keys that stand in merged_row as they are
-- compared are left out.
CREATE TABLE merged_slot (
  database INTEGER NOT NULL,
  slot     BLOB NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,
  birth    BLOB NOT NULL,
  PRIMARY KEY (database, slot, tbl, key, birth)
) WITHOUT ROWID;

-- Who refers to whom.
CREATE TABLE merged_reference (
  database     INTEGER NOT NULL,
  parent_tbl   INTEGER NOT NULL,
  parent_key   BLOB NOT NULL,
  parent_birth BLOB NOT NULL,
  tbl          INTEGER NOT NULL,
  key          BLOB NOT NULL,
  birth        BLOB NOT NULL,
  PRIMARY KEY (database, parent_tbl, parent_key, parent_birth, tbl, key, birth)
) WITHOUT ROWID;

-- Rows that do not stand in the application's table as the application should see them.
CREATE TABLE unwritten (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,             -- as image.key
  PRIMARY KEY (database, tbl, key)
) WITHOUT ROWID;

-- The write to the application's file that is under way: it happened if the file says so.
CREATE TABLE intent (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,
  birth    BLOB,
  row      BLOB,                      -- NULL: no row stands there afterwards
  PRIMARY KEY (database, tbl, key)
) WITHOUT ROWID;
CREATE TABLE written (
  database INTEGER PRIMARY KEY,
  count    INTEGER NOT NULL           -- the writes that the application's file has seen
);

-- Rows of which this site is to say something of its own: that one whose number another site's row
-- has goes on under another ('number'), that a mark which is to stay is meant ('mark').
CREATE TABLE owed (
  database INTEGER NOT NULL,
  what     TEXT NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,
  birth    BLOB NOT NULL,
  PRIMARY KEY (database, what, tbl, key, birth)
) WITHOUT ROWID;

-- Under which number such a row went on: rows that still refer to the old one are led there.
CREATE TABLE rekeyed (
  database  INTEGER NOT NULL,
  tbl       INTEGER NOT NULL,
  key       BLOB NOT NULL,
  birth     BLOB NOT NULL,
  new_key   BLOB NOT NULL,
  new_birth BLOB NOT NULL,
  PRIMARY KEY (database, tbl, key, birth)
) WITHOUT ROWID;

-- How many chunks of a branch's base are merged.
CREATE TABLE merged_base (
  branch INTEGER PRIMARY KEY,
  chunks INTEGER NOT NULL
);

-- Of a long run of batches: the one that is merged in part, behind those that are applied, and how
-- many of its changes are.
CREATE TABLE merged_part (
  branch   INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL,
  changes  INTEGER NOT NULL
);

-- The schema and the rules that outcomes, slots and references were settled under, as a hash.
CREATE TABLE settled (
  database INTEGER PRIMARY KEY,
  under    BLOB NOT NULL
);

-- How far they are settled anew under others: up to this row.
CREATE TABLE settling (
  database INTEGER PRIMARY KEY,
  under    BLOB NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,
  birth    BLOB NOT NULL
);

-- Every mark ever shown: the application may save one without having meant it.
CREATE TABLE shown_mark (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,             -- as image.key
  col      INTEGER NOT NULL,          -- merged_column.number
  text     BLOB NOT NULL,
  PRIMARY KEY (database, tbl, key, col, text)
) WITHOUT ROWID;

-- How much of other branches the origin of a branch had applied: the last batch that one of its
-- own names, and when that was made.
CREATE TABLE seen (
  branch    INTEGER NOT NULL,
  other     INTEGER NOT NULL,
  sequence  INTEGER NOT NULL,
  timestamp INTEGER NOT NULL,
  PRIMARY KEY (branch, other)
) WITHOUT ROWID;

-- Dead rows of which the application sees nothing, until they are forgotten.
CREATE TABLE dead_row (
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,             -- as merged_row
  birth    BLOB NOT NULL,
  round    INTEGER NOT NULL,          -- in which something last happened to it
  PRIMARY KEY (database, tbl, key, birth)
) WITHOUT ROWID;
CREATE INDEX dead_row_by_round ON dead_row (database, round);

-- Rounds of forgetting: the batches that changed rows here before the present one began.
CREATE TABLE round (
  database      INTEGER PRIMARY KEY,
  number        INTEGER NOT NULL,
  heartbeat_due INTEGER NOT NULL      -- something happened since this site's last heartbeat
);
CREATE TABLE round_branch (
  database INTEGER NOT NULL,
  branch   INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  PRIMARY KEY (database, branch)
) WITHOUT ROWID;

-- How much of all branches stood in the application's tables at the origin of a branch, at its last
-- heartbeat.
CREATE TABLE heartbeat (
  branch   INTEGER NOT NULL,
  other    INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  PRIMARY KEY (branch, other)
) WITHOUT ROWID;

-- The last batch of a branch that changed rows, as far as it is applied here.
CREATE TABLE last_change (
  branch   INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL
);

-- The last batch of a branch that has a change stamped below the batch itself.
CREATE TABLE low_stamp (
  branch   INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL
);

-- What the merge had to decide. One a subject: what is told again is the same conflict.
CREATE TABLE conflict (
  id       INTEGER PRIMARY KEY AUTOINCREMENT, -- people name it: never given out twice
  database INTEGER NOT NULL,
  tbl      INTEGER NOT NULL,
  key      BLOB NOT NULL,             -- as merged_row
  birth    BLOB NOT NULL,
  kind     TEXT NOT NULL,
  lasting  INTEGER NOT NULL,          -- it is so now, and goes when it is so no more; 0: it happened
  subject  BLOB NOT NULL,             -- what tells it from others of this row
  detail   BLOB NOT NULL,             -- packed: both sides
  since_ms INTEGER NOT NULL,
  decided  INTEGER NOT NULL DEFAULT 0,
  UNIQUE (database, tbl, key, birth, kind, subject)
);
CREATE INDEX conflict_in_order ON conflict (database, lasting, decided, id);
