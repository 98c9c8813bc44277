"""`weir archive` while its object store is away: it ends at once, and goes on where it was."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from support.command import weir
from support.servers.object_stores import Cut, answering, cut, object_store, with_store
from support.tenants.archived_events import FEBRUARY, JANUARY, events_of
from weir.infra.config import Config

MARCH = dt.date(2023, 3, 1)
ARCHIVE = ("archive", "--older-than", "1y", "--yes", "--to")


def test_a_store_that_goes_away_ends_the_run_which_goes_on_when_it_is_back(
    environ: dict[str, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with events_of(config) as events, object_store(monkeypatch) as store:
        for month in (JANUARY, FEBRUARY, MARCH):
            events.fill(month, rows=300)
        before = events.in_postgres()
        way = Cut(store, "events_202302")
        with cut(way) as address:
            mine = with_store(environ, monkeypatch, address)
            done = weir(mine, *ARCHIVE, "s3://cold/weir")
            assert done.returncode == 1
            assert done.stdout.startswith(b"events_202301: 300 rows in 1 files")
            [error] = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
            assert error.startswith("weir: events_202302 is not archived: s3://cold/weir/events_202302/")
            assert "NETWORK_CONNECTION" in error
            assert "; the archive is unreachable (s3://cold/weir cannot be reached: " in error
            assert error.endswith(
                ", so no later month was tried. Archived: events_202301. The other months stay in Postgres: "
                "run this again once the archive is reachable"
            )
            assert not any("202303" in path for path in way.paths)
            assert events.partitions() == {"events_202302", "events_202303"}

            way.mended()
            assert events.everywhere() == before
            assert weir(mine, *ARCHIVE, "s3://cold/weir").returncode == 0
            assert events.partitions() == set()
            assert events.archived() == before


def test_a_store_that_fails_is_asked_for_one_month(
    environ: dict[str, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with events_of(config) as events, answering(500) as address:
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=300)
        done = weir(with_store(environ, monkeypatch, address), *ARCHIVE, "s3://cold/weir")
        assert (done.returncode, done.stdout) == (1, b"")
        [error] = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
        assert error.startswith("weir: events_202301 is not archived: s3://cold/weir/events_202301/")
        assert "the archive is unreachable (s3://cold/weir cannot be reached: " in error
        assert "no later month was tried. Archived: none." in error
        assert events.partitions() == {"events_202301", "events_202302"}


def test_a_store_that_permits_nothing_is_not_away(
    environ: dict[str, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with events_of(config) as events, answering(403) as address:
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=300)
        done = weir(with_store(environ, monkeypatch, address), *ARCHIVE, "s3://cold/weir")
        assert (done.returncode, done.stdout) == (1, b"")
        errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
        for error, name in zip(errors, ("events_202301", "events_202302"), strict=True):
            assert error.startswith(f"weir: {name} is not archived: s3://cold/weir/{name}/")
            assert "ACCESS_DENIED" in error
        assert events.partitions() == {"events_202301", "events_202302"}


def test_who_may_not_ask_for_the_bucket_loses_no_month_but_the_bad_one(
    environ: dict[str, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(method: str, path: str) -> bool:
        return (method, path.rstrip("/")) == ("HEAD", "/cold") or (method in ("PUT", "POST") and "202302" in path)

    with events_of(config) as events, object_store(monkeypatch) as store:
        for month in (JANUARY, FEBRUARY, MARCH):
            events.fill(month, rows=300)
        way = Cut(store, "\0", denied)
        with cut(way) as address:
            done = weir(with_store(environ, monkeypatch, address), *ARCHIVE, "s3://cold/weir")
        assert done.returncode == 1
        assert [line.split(":")[0] for line in done.stdout.decode().splitlines()] == ["events_202301", "events_202303"]
        [error] = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
        assert error.startswith("weir: events_202302 is not archived: s3://cold/weir/events_202302/")
        assert "ACCESS_DENIED" in error
        assert "away" not in error
        assert "/cold" in {path.rstrip("/") for path in way.paths}
        assert events.partitions() == {"events_202302"}


def test_a_folder_that_is_away_ends_the_run(environ: dict[str, str], config: Config, tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text("nothing is mounted here")
    with events_of(config) as events:
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=300)
        done = weir(environ, *ARCHIVE, f"file://{tmp_path}/mounted/cold")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"is not archived") == 1
        assert b"no later month was tried. Archived: none." in done.stderr
        assert events.partitions() == {"events_202301", "events_202302"}
