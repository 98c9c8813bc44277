-- Which events are in cold storage: the months, each in one part or more, and the files of each part.

CREATE TABLE archive_parts (
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    part integer NOT NULL CHECK (part > 0),
    place text NOT NULL,
    state text NOT NULL CHECK (state IN ('writing', 'verified', 'complete')),
    rows bigint NOT NULL DEFAULT 0,
    id_sum numeric NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    verified_at timestamptz,
    completed_at timestamptz,
    PRIMARY KEY (month, part),
    CHECK ((state = 'writing') = (verified_at IS NULL)),
    CHECK ((state = 'complete') = (completed_at IS NOT NULL))
);
-- A month is archived by one run at a time, and its unfinished part is taken up or removed before the next.
CREATE UNIQUE INDEX archive_parts_unfinished ON archive_parts (month) WHERE state <> 'complete';

COMMENT ON TABLE archive_parts IS 'Months of events in cold storage; only what is complete is no longer in Postgres';
COMMENT ON COLUMN archive_parts.part IS 'Events that came after a month was archived are its next part';
COMMENT ON COLUMN archive_parts.place IS 'The folder of its files, s3:// or file://';
COMMENT ON COLUMN archive_parts.id_sum IS 'The sum of the rows'' ids: with their number, whether a partition has changed';

CREATE TABLE archive_files (
    month date NOT NULL,
    part integer NOT NULL,
    first_tenant bigint NOT NULL,
    last_tenant bigint NOT NULL CHECK (last_tenant >= first_tenant),
    name text NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    bytes bigint NOT NULL CHECK (bytes > 0),
    checksum text NOT NULL,
    PRIMARY KEY (month, part, first_tenant),
    FOREIGN KEY (month, part) REFERENCES archive_parts ON DELETE CASCADE
);

COMMENT ON TABLE archive_files IS 'The Parquet files of each part, one for each range of tenants';
COMMENT ON COLUMN archive_files.checksum IS 'SHA-256 of its rows in order, as lines of CSV';

GRANT SELECT ON archive_parts, archive_files TO weir_reader;
