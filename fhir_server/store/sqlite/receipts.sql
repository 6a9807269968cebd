-- A step of the store's file: whom a delivery is about, and receipts in a chain of digests.

-- `patient` is a resource's key; `receipt_number` the last receipt of the delivery, 0 for none.
ALTER TABLE delivery ADD COLUMN patient INTEGER;
ALTER TABLE delivery ADD COLUMN receipt_number INTEGER NOT NULL DEFAULT 0;

CREATE INDEX delivery_of_patient ON delivery (patient, id) WHERE patient IS NOT NULL;
CREATE INDEX delivery_by_time ON delivery (queued_at, id);

-- `receipts` and `digest` are number and digest of the sink's last receipt, `audited` the
-- number of the last one that an AuditEvent was written for.
ALTER TABLE sink ADD COLUMN receipts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE sink ADD COLUMN audited INTEGER NOT NULL DEFAULT 0;

-- `lines` is JSON: delivery, sequence and Type/id/_history/version of each delivery.
CREATE TABLE receipt (
    sink INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    detail TEXT NOT NULL,
    lines TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (sink, number)
) WITHOUT ROWID, STRICT;
