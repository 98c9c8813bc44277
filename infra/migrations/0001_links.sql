-- The links job's results, as the topics link-counts and link-windows have them.
--
-- Ids are compared byte by byte (COLLATE "C"): the order is the same on every machine, and no index breaks when a
-- machine's locale library changes.

CREATE TABLE link_counts (
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    source text COLLATE "C" NOT NULL,
    destination text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    final boolean NOT NULL,
    partition integer NOT NULL,
    -- By window first: the range queries of closed windows read it in order.
    PRIMARY KEY (window_start, source, destination)
) WITH (fillfactor = 80); -- room on the page for the counts of an open window, which change in place

COMMENT ON TABLE link_counts IS 'How often one parent talked to another in one window; topic link-counts';
COMMENT ON COLUMN link_counts.final IS 'Its partition has closed the window';
COMMENT ON COLUMN link_counts.partition IS 'The partition of link-counts that owns this pair in this window';

-- For counting a partition's final rows of a window, which closed_windows does: a tenth of the primary key's size, and
-- no visit to the table.
CREATE INDEX link_counts_final ON link_counts (window_start, partition) WHERE final;

CREATE TABLE link_windows (
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    partition integer NOT NULL,
    partitions integer NOT NULL,
    cells bigint NOT NULL,
    PRIMARY KEY (window_start, partition)
);

COMMENT ON TABLE link_windows IS 'Which partition has closed which window; topic link-windows';
COMMENT ON COLUMN link_windows.cells IS 'How many final counts the partition held when it closed the window';

-- A window is closed here once every partition has closed it and as many final counts of each are stored as it had:
-- the two topics are read apart, so the word that a window is closed can come before its counts.
CREATE VIEW closed_windows AS
SELECT
    w.window_start,
    max(w.window_end) AS window_end,
    sum(stored.links)::bigint AS links
FROM link_windows AS w
CROSS JOIN LATERAL (
    SELECT count(*) AS links
    FROM link_counts AS c
    WHERE c.window_start = w.window_start AND c.partition = w.partition AND c.final
) AS stored
GROUP BY w.window_start
HAVING count(*) = max(w.partitions) AND bool_and(stored.links >= w.cells);

-- Where each sink goes on reading. It moves in the transaction that stores what was read, and only from the value
-- that the sink expects: so every record has its effect once, and of two sinks one gives way.
CREATE TABLE sink_offsets (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (sink, topic, partition)
);
