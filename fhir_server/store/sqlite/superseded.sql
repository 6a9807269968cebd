-- A step of the store's file: what is no longer current, found without its version.

-- Few are: a page of what is current asks here, and not for each of its versions, which are
-- as far apart as a patient's readings. The number is `layout.CURRENT`.
CREATE INDEX version_superseded ON version (seq, superseded)
    WHERE superseded < 140737488355327;
