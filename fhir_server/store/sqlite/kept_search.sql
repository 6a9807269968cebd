-- A step of the store's file: long searches are kept, strings are read in their order.

-- Searches that are too long for a page link, sealed. `kept_at` is when a page was asked
-- for last, in milliseconds since 1970.
CREATE TABLE kept_search (
    name TEXT PRIMARY KEY,
    kept_at INTEGER NOT NULL,
    sealed TEXT NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX kept_search_by_age ON kept_search (kept_at);

-- In the order of a page that is sorted by a string.
DROP INDEX string_by_value;
CREATE INDEX string_by_value ON string_entry (parameter, folded, seq, exact);
