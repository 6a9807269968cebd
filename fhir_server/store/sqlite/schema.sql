-- Version 1 of the store's file. Later versions are steps of their own; schema.py lists them.

-- Single values that all processes share: the definition generation, the purge horizon,
-- the outbox's position.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- Names that index rows say as integers. A row is never changed nor removed.
CREATE TABLE type (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- A search parameter of a type, or a timeline of it ("subject+code+date"). A new generation
-- has new ids, so a reindex fills its rows beside those that are searched.
CREATE TABLE parameter (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    type INTEGER NOT NULL,
    code TEXT NOT NULL,
    UNIQUE (generation, type, code)
) STRICT;

-- SearchParameter resources that are live in a generation, beside R4's own.
CREATE TABLE definition (
    generation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (generation, number)
) WITHOUT ROWID, STRICT;

CREATE TABLE uri (
    id INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE code (
    id INTEGER PRIMARY KEY,
    system INTEGER NOT NULL,
    code TEXT NOT NULL,
    UNIQUE (code, system)
) STRICT;

CREATE INDEX code_by_system ON code (system);

-- What a code was called in some resource, folded; id 0 stands for no text.
CREATE TABLE display (
    id INTEGER PRIMARY KEY,
    code INTEGER NOT NULL,
    folded TEXT NOT NULL,
    UNIQUE (folded, code)
) STRICT;

CREATE TABLE unit (
    id INTEGER PRIMARY KEY,
    system TEXT NOT NULL,
    code TEXT NOT NULL,
    unit TEXT NOT NULL,
    canonical TEXT NOT NULL,
    UNIQUE (code, system, unit, canonical)
) STRICT;

-- Every identity that exists or is referred to.
CREATE TABLE resource (
    key INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    UNIQUE (type, id)
) STRICT;

-- One row a version; `seq` is the commit order, without a gap. A version is what a search
-- as of S sees while seq <= S < superseded. A deletion is superseded by itself: never seen.
-- `updated` is in milliseconds since 1970; `interaction` is 0 create, 1 update, 2 delete,
-- 3 update that creates.
CREATE TABLE version (
    seq INTEGER PRIMARY KEY,
    resource INTEGER NOT NULL,
    type INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    superseded INTEGER NOT NULL,
    interaction INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX version_by_resource ON version (resource, version_id);
CREATE INDEX version_by_type ON version (type);

-- Apart from `version`, so that a search can check thousands of versions in a few pages.
CREATE TABLE body (
    seq INTEGER PRIMARY KEY,
    text BLOB NOT NULL
) STRICT;

-- Index entries. They belong to a version (seq) and are never changed. `element` is the
-- repetition of a composite's element that an entry comes from.
CREATE TABLE token_entry (
    parameter INTEGER NOT NULL,
    code INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    element INTEGER NOT NULL,
    display INTEGER NOT NULL,
    PRIMARY KEY (parameter, code, seq, element, display)
) WITHOUT ROWID, STRICT;

-- Identifiers and contact points: as text, exact. A hash that collides is a wrong patient.
CREATE TABLE identifier_entry (
    parameter INTEGER NOT NULL,
    value TEXT NOT NULL,
    system INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    element INTEGER NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (parameter, value, system, seq, element, folded)
) WITHOUT ROWID, STRICT;

CREATE TABLE reference_entry (
    parameter INTEGER NOT NULL,
    target INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    element INTEGER NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (parameter, target, seq, element, version)
) WITHOUT ROWID, STRICT;

-- From a version to what it refers to: chains, _has, :missing.
CREATE INDEX reference_by_seq ON reference_entry (seq, parameter);

CREATE TABLE uri_entry (
    parameter INTEGER NOT NULL,
    uri INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    element INTEGER NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (parameter, uri, seq, element, version)
) WITHOUT ROWID, STRICT;

-- `wide` is 0 where `start` bounds the whole: the resource's one range, not longer than a
-- day. Else it is 1, and `place` has bit 1 on a resource's first range, bit 2 on its last.
CREATE TABLE date_entry (
    seq INTEGER NOT NULL,
    parameter INTEGER NOT NULL,
    element INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    wide INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (seq, parameter, element, start, "end")
) WITHOUT ROWID, STRICT;

CREATE INDEX date_by_value ON date_entry (parameter, wide, start, seq, "end", place);

CREATE TABLE string_entry (
    seq INTEGER NOT NULL,
    parameter INTEGER NOT NULL,
    element INTEGER NOT NULL,
    folded TEXT NOT NULL,
    exact TEXT NOT NULL,
    PRIMARY KEY (seq, parameter, element, folded, exact)
) WITHOUT ROWID, STRICT;

CREATE INDEX string_by_value ON string_entry (parameter, folded, exact);

-- Numbers are keys that sort as the decimals do (decimal_key.py): exact, of any size.
CREATE TABLE number_entry (
    seq INTEGER NOT NULL,
    parameter INTEGER NOT NULL,
    element INTEGER NOT NULL,
    low BLOB NOT NULL,
    high BLOB NOT NULL,
    PRIMARY KEY (seq, parameter, element, low, high)
) WITHOUT ROWID, STRICT;

CREATE TABLE quantity_entry (
    seq INTEGER NOT NULL,
    parameter INTEGER NOT NULL,
    element INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    low BLOB NOT NULL,
    high BLOB NOT NULL,
    canonical_low BLOB NOT NULL,
    canonical_high BLOB NOT NULL,
    PRIMARY KEY (seq, parameter, element, unit, low, high, canonical_low, canonical_high)
) WITHOUT ROWID, STRICT;

-- What resources say in words: each set of words once, and where each word stands.
CREATE TABLE text (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE word (
    word TEXT NOT NULL,
    text INTEGER NOT NULL,
    PRIMARY KEY (word, text)
) WITHOUT ROWID, STRICT;

CREATE TABLE text_entry (
    parameter INTEGER NOT NULL,
    text INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (parameter, text, seq)
) WITHOUT ROWID, STRICT;

-- The searches the system lives on: what belongs to `subject` (and has `code`), by date.
-- `code` 0 stands for any; `wide` 2 for no date at all. See layout.py.
CREATE TABLE timeline_entry (
    parameter INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    code INTEGER NOT NULL,
    wide INTEGER NOT NULL,
    start INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (parameter, subject, code, wide, start, seq, "end")
) WITHOUT ROWID, STRICT;

-- The outbox: what goes where (state 0 queued, 1 sent, 2 accepted, 3 parked, 4 superseded,
-- 5 withheld, 6 rejected, 7 registered).
-- `due` is when it may be claimed: for one that is sent, when its lease runs out.
CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    resource INTEGER NOT NULL,
    "group" TEXT NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    receipt TEXT NOT NULL,
    UNIQUE (sink, seq)
) STRICT;

CREATE INDEX delivery_by_state ON delivery (sink, state);
CREATE INDEX delivery_due ON delivery (sink, due, id) WHERE state < 2;
CREATE INDEX delivery_in_group ON delivery (sink, "group", seq) WHERE state < 2;
CREATE INDEX delivery_of_resource ON delivery (sink, resource, seq);
CREATE INDEX delivery_waiting ON delivery (queued_at) WHERE state < 2;

CREATE TABLE delivery_event (
    id INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX delivery_event_by_delivery ON delivery_event (delivery);

INSERT INTO meta (name, value) VALUES
    ('generation', 1), ('purged', 0), ('outbox_position', 0);
