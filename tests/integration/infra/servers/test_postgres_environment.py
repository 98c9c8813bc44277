"""The variables that libpq reads by itself: what is set for other programs changes nothing of weir's answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from support.command import started, weir
from support.links.link_records import Job, cell, closed
from support.links.link_store_client import LinkStoreClient, expected
from support.tenants.analytics_store_client import RUN, AnalyticsStoreClient, event
from support.wait import PATIENCE_S, until
from weir.infra import postgres
from weir.infra.config import Config, load
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running
from weir.schemas.times import from_rfc3339, to_rfc3339

#: None is as weir wants it.
FOREIGN = {
    "PGDATESTYLE": "German, DMY",
    "PGTZ": "Asia/Tokyo",
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c statement_timeout=1 -c search_path=pg_catalog -c IntervalStyle=iso_8601 -c extra_float_digits=-5",
    "PGAPPNAME": "another",
    "PGPASSWORD": "another's",
}
#: No server starts with these as they are, and no session begins.
WRONG = {
    "PGDATESTYLE": "nonsense",
    "PGTZ": "Nowhere/Nothing",
    "PGCLIENTENCODING": "nonsense",
    "PGOPTIONS": "-c statement_timeout=1 -c default_transaction_read_only=on -c nosuch=1",
    "PGDATA": "/nowhere",
    "PGPORT": "1",
    "PGDATABASE": "nosuch",
    "PGUSER": "nobody",
}
#: The last quarter of an hour of a month, by the clock of UTC.
LATE = from_rfc3339("2023-01-31T23:45:00Z")
EVENTS = [event(1, LATE + n * 600_000, 1000 + n, f'{{"ключ {n}":{n}}}') for n in range(4)]
COUNTS = [cell(0, "ä", "日本", 2, final=True)]


@contextmanager
def api(environ: dict[str, str]) -> Iterator[None]:
    """Serves the questions of the block."""
    with started(environ, "run", "api") as running:
        until(lambda: asked(environ, "/health"))
        yield
        assert running.interrupt() == 0


def asked(environ: dict[str, str], path: str) -> bytes:
    """Returns the body of the API's answer; empty if the API does not listen yet."""
    connection = http.client.HTTPConnection("127.0.0.1", int(environ["WEIR_API_PORT"]), timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body
    except ConnectionRefusedError:
        return b""
    finally:
        connection.close()


def answers(environ: dict[str, str]) -> list[bytes]:
    """Returns the API's answers about everything that is stored."""
    with api(environ):
        return [
            asked(environ, "/analytics/daily?from=2023-01-01&to=2023-03-01"),
            asked(environ, "/analytics/tenants/1/events?from=2023-01-01T00:00:00Z&to=2023-03-01T00:00:00Z"),
            asked(environ, "/links?from=2026-01-31T00:00:00Z&to=2026-02-01T00:00:00Z"),
        ]


def said(environ: dict[str, str], *arguments: str) -> str:
    """Returns the standard output of a command that succeeds."""
    done = weir(environ, *arguments)
    assert done.returncode == 0, done
    return done.stdout.decode()


def test_what_is_stored_and_answered_is_the_same_whatever_libpq_is_told(
    environ: dict[str, str], config: Config, tmp_path: Path
) -> None:
    foreign = environ | FOREIGN
    said(foreign, "migrate")
    said(foreign, "tenants", "add", "1", "--plan", "free", "--name", "株式会社 Übung")
    probe, links = AnalyticsStoreClient(config), LinkStoreClient(config)
    Job(config).write((0, COUNTS[0]), *((n, closed(0, n, int(n == 0), 4)) for n in range(4)))
    probe.write(EVENTS)
    with started(foreign, *RUN), started(foreign, "run", "link-store"):
        until(lambda: probe.offsets() == len(EVENTS))
        until(lambda: links.rows() == expected(COUNTS))
        until(lambda: links.ask("SELECT count(*) FROM link_windows") == [(4,)])
    probe.check(EVENTS)
    assert said(foreign, "tenants", "list") == "1\tfree\t株式会社 Übung\n"
    times = "--from", "2026-01-31T00:00:00Z", "--to", "2026-02-01T00:00:00Z"
    assert said(foreign, "links", *times) == "2026-01-31T12:00:00Z\tä\t日本\t2\n"

    before = answers(environ)
    assert b"2023-02-01T00:15:00Z" in before[1]
    moved = said(foreign, "archive", "--older-than", "1y", "--to", f"file://{tmp_path}/cold", "--yes")
    assert moved.count(": 2 rows in 1 files") == 2
    found = [json.loads(line) for line in said(foreign, "archive", "query", "--tenant", "1").splitlines()]
    assert [row["created_at"] for row in found] == [to_rfc3339(LATE + n * 600_000) for n in range(4)]
    assert [json.loads(row["payload"]) for row in found] == [{f"ключ {n}": n} for n in range(4)]
    assert answers(foreign) == before


def test_a_session_is_as_weir_wants_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    with postgres.connect(config, "test", {"lock_timeout": "3s"}) as connection:
        names = ("DateStyle", "TimeZone", "client_encoding", "IntervalStyle", "extra_float_digits", "statement_timeout")
        found = [shown(connection, name) for name in (*names, "application_name", "lock_timeout")]
    assert found == ["ISO, MDY", "UTC", "UTF8", "postgres", "1", "0", "test", "3s"]


def shown(connection: psycopg.Connection, setting: str) -> object:
    row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
    return row and row[0]


def test_the_embedded_server_starts_whatever_libpq_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = load({"WEIR_HOME": str(tmp_path), "WEIR_POSTGRES_PORT": str(port)})
    for name, value in WRONG.items():
        monkeypatch.setenv(name, value)
    with running(PostgresServer(config)), postgres.connect(config, "test") as connection:
        assert connection.execute("SELECT current_database()::text").fetchall() == [("weir",)]
        assert shown(connection, "statement_timeout") == "0"
        # What the server itself was started with, of which a session of weir's shows nothing.
        [found] = connection.execute(
            "SELECT count(*) FROM pg_settings WHERE source = 'environment variable'"
        ).fetchall()
        assert found == (0,)
