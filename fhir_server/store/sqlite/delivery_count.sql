-- How many deliveries each sink has in each state: asked for by every look at the metrics.

CREATE TABLE delivery_count (
    sink INTEGER NOT NULL,
    state INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (sink, state)
) STRICT, WITHOUT ROWID;

INSERT INTO delivery_count (sink, state, number)
SELECT sink, state, count(*) FROM delivery GROUP BY sink, state;

CREATE TRIGGER delivery_counted AFTER INSERT ON delivery BEGIN
    INSERT INTO delivery_count (sink, state, number) VALUES (NEW.sink, NEW.state, 1)
    ON CONFLICT (sink, state) DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER delivery_counted_again AFTER UPDATE OF state ON delivery
WHEN NEW.state <> OLD.state BEGIN
    UPDATE delivery_count SET number = number - 1 WHERE sink = OLD.sink AND state = OLD.state;
    INSERT INTO delivery_count (sink, state, number) VALUES (NEW.sink, NEW.state, 1)
    ON CONFLICT (sink, state) DO UPDATE SET number = number + 1;
END;
