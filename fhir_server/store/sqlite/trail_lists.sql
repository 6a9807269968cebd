-- Whose lists a sheet of the trail is on is written later, for many together: up to "listed"
-- it is. `waiting` counts the records behind that.
ALTER TABLE trail_end ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;

INSERT INTO trail_end (name, seq, at, digest)
    SELECT 'listed', seq, at, digest FROM trail_end WHERE name = 'newest';
