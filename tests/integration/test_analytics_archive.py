"""The repository over Postgres and the archive: every event once, also while a month is on its way."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from archived_events import FEBRUARY, JANUARY, events_of
from command import PATIENCE_S
from consumers.analytics_events import EventQuery
from consumers.analytics_repository import AnalyticsRepository
from consumers.analytics_rows import Event, Scope
from consumers.archive_reader import ArchiveReader
from consumers.archive_run import Archiver
from infra.config import Config
from infra.errors import ArchiveUnavailableError

TIMES = EventQuery(dt.datetime(2022, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 97)


async def pages(repository: AnalyticsRepository, wanted: EventQuery) -> list[Event]:
    found: list[Event] = []
    while True:
        page = await repository.events(Scope.of(2), 2, wanted)
        found += page.rows
        if page.next is None:
            return found
        wanted = replace(wanted, after=page.next)


def test_pages_have_every_event_once_while_months_are_archived(config: Config, tmp_path: Path) -> None:
    with events_of(config) as events:
        events.connection.execute("INSERT INTO tenants (id, plan) VALUES (2, 'free')")
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=1500)
        done = threading.Event()

        def work() -> None:
            try:
                with Archiver(config, f"file://{tmp_path}/cold") as archiver:
                    for month in (JANUARY, FEBRUARY):
                        archiver.archive(month)
            finally:
                done.set()

        async def asked() -> None:
            reader = ArchiveReader(config)
            repository = AnalyticsRepository(config, archive=reader)
            await repository.open()
            try:
                before = await pages(repository, TIMES)
                typed = [event for event in before if event.event_type == "type-3"]
                worker.start()
                while True:
                    last = done.is_set()
                    assert await pages(repository, TIMES) == before
                    if last:
                        break
                assert await pages(repository, replace(TIMES, event_type="type-3")) == typed
                for path in (tmp_path / "cold").rglob("*.parquet"):
                    path.unlink()
                with pytest.raises(ArchiveUnavailableError):
                    await pages(repository, TIMES)
            finally:
                await repository.close()
                reader.close()

        worker = threading.Thread(target=work)
        asyncio.run(asked())
        worker.join(PATIENCE_S)
        assert events.partitions() == set()
