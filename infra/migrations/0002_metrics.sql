-- The metrics job's results, as the topic metric-aggregates has them.

CREATE TABLE metric_aggregates (
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    avg double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    p50 double precision NOT NULL,
    p95 double precision NOT NULL,
    p99 double precision NOT NULL,
    users bigint NOT NULL,
    final boolean NOT NULL,
    PRIMARY KEY (window_start, event_type)
) WITH (fillfactor = 80); -- room on the page for the aggregates of an open window, which change in place

COMMENT ON TABLE metric_aggregates IS 'What the events of one type in one minute come to; topic metric-aggregates';
COMMENT ON COLUMN metric_aggregates.p50 IS 'An estimate, as p95 and p99 are: the value that half of all do not exceed';
COMMENT ON COLUMN metric_aggregates.users IS 'How many different users there were, an estimate';
COMMENT ON COLUMN metric_aggregates.final IS 'The window is closed; a late event within the retention revises it';
