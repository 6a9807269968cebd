-- The audit trail: what was done to whose data by whom. One row a record, each digest covers
-- the one before. `at` is in milliseconds since 1970 and never falls as `seq` grows.
CREATE TABLE trail (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    text BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT;

CREATE INDEX trail_by_time ON trail (at);

CREATE TABLE trail_patient (
    patient TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (patient, seq)
) WITHOUT ROWID, STRICT;

-- The ends of the chain: what was "pruned" last, and the "newest".
CREATE TABLE trail_end (
    name TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL
) WITHOUT ROWID, STRICT;

INSERT INTO trail_end (name, seq, at, digest) VALUES
    ('pruned', 0, 0, zeroblob(32)), ('newest', 0, 0, zeroblob(32));
