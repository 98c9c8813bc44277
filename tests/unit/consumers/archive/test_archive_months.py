"""Which months are old enough, how tenants are put together in files, and what is asked of DuckDB."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.archive.archiver import ranges
from weir.consumers.archive.months import cutoff, start
from weir.consumers.archive.sql import answer
from weir.consumers.sinks.partitions import bounds, end_of, following, month_between
from weir.infra.config import load
from weir.infra.config.sections.archive import archive_url
from weir.infra.errors import ConfigError
from weir.schemas.errors import WeirError

NOW = dt.datetime(2026, 3, 31, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        ("2y", "2024-03-31"),
        ("18mo", "2024-09-30"),
        ("31d", "2026-02-28"),
        ("1mo", "2026-02-28"),
        ("15mo", "2024-12-31"),
    ],
)
def test_an_age_is_counted_back_from_now(age: str, expected: str) -> None:
    assert f"{cutoff(age, NOW):%Y-%m-%dT%H}" == f"{expected}T12"


@pytest.mark.parametrize("age", ["", "2", "y", "0d", "-1y", "1.5y", "2w", "3000y", "99999y", "99999d x"])
def test_what_is_no_age_is_refused(age: str) -> None:
    with pytest.raises(ValueError, match=r"write an age as|is before the year 1"):
        cutoff(age, NOW)


@given(st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31)))
def test_a_partitions_bounds_say_its_month(day: dt.date) -> None:
    month = day.replace(day=1)
    assert month_between(bounds(month)) == month
    assert end_of(bounds(month)) == start(following(month))
    assert following(month) == following(day)
    assert following(month).day == 1


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("'2024-01-01 00:00:00+00'", "'2024-01-31 00:00:00+00'"),
        ("'2024-01-02 00:00:00+00'", "'2024-02-01 00:00:00+00'"),
        ("'2024-01-01 00:00:00+00'", "'2024-03-01 00:00:00+00'"),
        ("'2024-01-01 00:00:00+01'", "'2024-02-01 00:00:00+01'"),
        ("MINVALUE", "'2024-02-01 00:00:00+00'"),
        ("'2024-01-01 00:00:00+00'", "MAXVALUE"),
        ("'0001-01-01 00:00:00+00 BC'", "'0001-01-01 00:00:00+00'"),
        ("'9999-12-01 00:00:00+00'", "'10000-01-01 00:00:00+00'"),
    ],
    ids=["day", "late", "two", "zone", "open", "endless", "bc", "far"],
)
def test_other_bounds_are_no_months(first: str, last: str) -> None:
    assert month_between(f"FOR VALUES FROM ({first}) TO ({last})") is None


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_ranges_hold_every_tenant_once_and_no_more_rows_than_they_may(rows: list[int], most: int) -> None:
    tenants = [(3 * n, number) for n, number in enumerate(rows)]
    found = ranges(tenants, most)
    held = [[(tenant, number) for tenant, number in tenants if first <= tenant <= last] for first, last in found]
    assert [pair for group in held for pair in group] == tenants
    assert all(len(group) == 1 or sum(number for _, number in group) <= most for group in held)


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE events", "SELECT 1; SELECT 2", "CREATE TABLE x AS SELECT 1", "COPY events TO '/tmp/x.csv'", "",
        "COPY (SELECT 1) TO '/tmp/x.parquet'", "ATTACH '/tmp/x.db'", "INSTALL httpfs", "LOAD httpfs",
        "EXPLAIN SELECT 1", "SET enable_external_access = true", "SET lock_configuration = false",
        "INSERT INTO events SELECT * FROM events", "DELETE FROM events", "EXPORT DATABASE '/tmp/x'",
    ],
    ids=range(15),
)  # fmt: skip
def test_what_is_no_single_select_is_refused(query: str) -> None:
    with pytest.raises(WeirError, match="the archive accepts one SELECT statement, and no other"), answer([], query):
        pass


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_text('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_parquet('s3://cold/x')", "disabled|not exist|extension"),
        ("SELECT * FROM read_json('http://127.0.0.1/')", "file system operations are disabled"),
        ("SELECT * FROM glob('/etc/*')", "file system operations are disabled"),
        ("FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM files", "does not exist"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("SELECT nonsense FROM events", "not found"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM events WHERE tenant_id = ?", "Values were not provided"),
    ],
    ids=range(11),
)
def test_a_select_sees_nothing_but_events(query: str, error: str) -> None:
    with pytest.raises(WeirError, match=error), answer([], query) as found:
        list(found.rows)


def test_moments_are_in_utc_wherever_they_are_in_a_row() -> None:
    query = """SELECT 'é;' AS a, ts, [ts] AS l, {'t': ts, 'n': NULL} AS s, 2::HUGEINT ** 70 AS h, ts::TIMESTAMP AS p
     FROM (SELECT TIMESTAMPTZ '2024-01-31 23:00:00.000001-02' AS ts) ORDER BY 1 ; -- é"""
    moment = dt.datetime(2024, 2, 1, 1, 0, 0, 1, dt.UTC)
    with answer([], query) as found:
        [row] = found.rows
    assert found.columns == ["a", "ts", "l", "s", "h", "p"]
    assert row == ("é;", moment, [moment], {"t": moment, "n": None}, 2**70, moment.replace(tzinfo=None))


def test_an_archive_without_files_has_no_events() -> None:
    with answer([], "SELECT count(*), min(created_at) FROM events") as found:
        assert list(found.rows) == [(0, None)]


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "file://x", "file:///", "http://h/x", "s3://key@bucket/x", "s3://b/x?y", "s3://bu//x", "x"],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be s3://bucket/prefix or file:///path"):
        archive_url(url)
    with pytest.raises(ConfigError, match="WEIR_ARCHIVE"):
        load({"WEIR_ARCHIVE": url})
