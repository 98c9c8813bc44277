"""`weir archive` while its object store is away: it ends at once, and goes on where it was."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from archived_events import FEBRUARY, JANUARY, events_of
from command import weir
from infra.config import Config
from object_stores import Cut, answering, cut, object_store, with_store

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
            assert error.endswith(
                "; no month after it was tried. Archived: events_202301. The others stay in Postgres: run it again "
                "once the archive is there"
            )
            assert not any("202303" in path for path in way.paths)
            assert events.partitions() == {"events_202302", "events_202303"}

            way.mended()
            assert events.everywhere() == before
            assert weir(mine, *ARCHIVE, "s3://cold/weir").returncode == 0
            assert events.partitions() == set()
            assert events.archived() == before


@pytest.mark.parametrize("status", [403, 500], ids=["refuses", "fails"])
def test_a_store_that_takes_nothing_is_asked_for_one_month(
    environ: dict[str, str], config: Config, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with events_of(config) as events, answering(status) as address:
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=300)
        done = weir(with_store(environ, monkeypatch, address), *ARCHIVE, "s3://cold/weir")
        assert (done.returncode, done.stdout) == (1, b"")
        [error] = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
        assert error.startswith("weir: events_202301 is not archived: ")
        assert "no month after it was tried. Archived: none." in error
        assert events.partitions() == {"events_202301", "events_202302"}


def test_a_folder_that_is_away_ends_the_run(environ: dict[str, str], config: Config, tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text("nothing is mounted here")
    with events_of(config) as events:
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=300)
        done = weir(environ, *ARCHIVE, f"file://{tmp_path}/mounted/cold")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"is not archived") == 1
        assert b"no month after it was tried. Archived: none." in done.stderr
        assert events.partitions() == {"events_202301", "events_202302"}
