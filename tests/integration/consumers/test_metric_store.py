"""The sink of metrics: what minutes come to, in Postgres. What befalls a sink is tried with link-store."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from support.command import started
from support.metrics.metric_records import Job, cell
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.status import read_all
from weir.schemas.dead_letters import from_headers
from weir.schemas.topics import DEAD_LETTERS, METRIC_AGGREGATES
from weir.streams.engine.progress.offsets import Group, read_to

RUN = ("run", "metric-store")
#: 2026-01-31T12:00:00Z, in minutes since 1970.
NOON = 1_769_860_800_000 // 60_000
NOON_TIME = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def rows(config: Config) -> list[tuple[Any, ...]]:
    """Returns the stored rows; none if the table does not exist yet."""
    with suppress(psycopg.errors.UndefinedTable), psycopg.connect(config.dsn, autocommit=True) as connection:
        return connection.execute("SELECT * FROM metric_aggregates ORDER BY window_start, event_type").fetchall()
    return []


@pytest.fixture
def job(config: Config) -> Job:
    kafka.ensure_topics(config, [METRIC_AGGREGATES, DEAD_LETTERS])
    return Job(config)


def test_the_latest_of_every_minute_and_type_is_stored(environ: dict[str, str], config: Config, job: Job) -> None:
    job.write(cell(NOON, "login", [(0.25, "a")]), cell(NOON + 1, "login", [(-1.5, "a")]))
    job.write(cell(NOON, "'; DROP TABLE metric_aggregates; --", [(0.5, "a"), (2.0, "b")]), partition=1)
    with started(environ, *RUN):
        until(lambda: len(rows(config)) == 3)
        job.write(cell(NOON, "login", [(0.25, "a"), (12.0, "b"), (-1e90, "a")], final=True))
        quoted = (NOON_TIME, NOON_TIME + MINUTE, "'; DROP TABLE metric_aggregates; --", 2, 2.5, 1.25, 0.5, 2.0,
                  0.5, 2.0, 2.0, 2, False)  # fmt: skip
        login = (NOON_TIME, NOON_TIME + MINUTE, "login", 3, -1e90, -1e90 / 3, -1e90, 12.0, 0.25, 12.0, 12.0, 2, True)
        later = (NOON_TIME + MINUTE, NOON_TIME + 2 * MINUTE, "login", 1, -1.5, -1.5, -1.5, -1.5, -1.5, -1.5, -1.5, 1,
                 False)  # fmt: skip
        until(lambda: rows(config) == [quoted, login, later])


def test_what_cannot_be_stored_becomes_a_dead_letter_and_the_rest_goes_on(
    environ: dict[str, str], config: Config, job: Job
) -> None:
    _, good, state = cell(NOON, "login", [(0.25, "a")])
    assert good is not None
    bad = [
        good.replace(b'"count":1', b'"count":9223372036854775808'),
        good.replace(b'"quantiles":[0.25,0.25,0.25]', b'"quantiles":[0.25]'),
        good.replace(b'"login"', rb'"a\u0000b"'),
        b"[",
    ]
    job.write(*((b"key", value, state) for value in bad), cell(NOON, "search", [(1.0, "a")]))
    with started(environ, *RUN):
        until(lambda: [row[2] for row in rows(config)] == ["search"])
        until(lambda: {"records": 5, "refused": 4} in [s.detail for s in read_all(config)])
    group = Group(config, "test")
    letters = list(read_to(config, DEAD_LETTERS.name, 0, *group.ends(DEAD_LETTERS.name, 0)))
    assert [letter.value() for letter in letters] == bad
    assert {from_headers(letter.headers()).job for letter in letters} == {"metric-store"}  # type: ignore[arg-type]
