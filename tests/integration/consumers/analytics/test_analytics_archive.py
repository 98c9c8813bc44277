"""The repository over Postgres and the archive: every event once, also while a month is on its way."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from support.tenants.archived_events import FEBRUARY, JANUARY, Moving, events_of
from support.tenants.tenant_rows import every_event
from support.wait import PATIENCE_S
from weir.consumers.analytics.events import EventQuery, Part
from weir.consumers.analytics.repository import ARCHIVE_READS, AnalyticsRepository
from weir.consumers.analytics.rows import Scope
from weir.consumers.archive.archiver import Archiver
from weir.consumers.archive.reader import ArchiveReader
from weir.infra.config import Config
from weir.infra.errors import ArchiveUnavailableError

TIMES = EventQuery(dt.datetime(2022, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 97)


def test_pages_have_every_event_once_while_months_are_archived(config: Config, tmp_path: Path) -> None:
    with events_of(config) as events:
        events.connection.execute("INSERT INTO tenants (id, plan) VALUES (2, 'free')")
        for month in (JANUARY, FEBRUARY):
            events.fill(month, rows=1500)
        moving = Moving(config, tmp_path / "cold", JANUARY, FEBRUARY)

        async def asked() -> None:
            reader = ArchiveReader(config)
            repository = AnalyticsRepository(config, archive=reader)
            await repository.open()
            try:
                before = await every_event(repository, 2, TIMES)
                typed = [event for event in before if event.event_type == "type-3"]
                moving.start()
                for _ in moving.looks():
                    assert await every_event(repository, 2, TIMES) == before
                assert await every_event(repository, 2, replace(TIMES, event_type="type-3")) == typed
                for path in (tmp_path / "cold").rglob("*.parquet"):
                    path.unlink()
                with pytest.raises(ArchiveUnavailableError):
                    await every_event(repository, 2, TIMES)
            finally:
                await repository.close()
                reader.close()

        asyncio.run(asked())
        moving.join(PATIENCE_S)
        assert events.partitions() == set()


def test_a_page_out_of_the_archive_is_cut_by_its_bytes(config: Config, tmp_path: Path) -> None:
    with events_of(config) as events:
        events.connection.execute("INSERT INTO tenants (id, plan) VALUES (2, 'free')")
        events.fill(JANUARY, rows=200, tenants=1)
        events.connection.execute(
            "UPDATE events SET tenant_id = 2, payload = jsonb_build_object('a', repeat(id::text, 2000))"
        )
        wanted = replace(TIMES, limit=1_000, max_bytes=100_000)
        with Archiver(config, f"file://{tmp_path}/cold") as archiver:
            archiver.archive(JANUARY)

        async def asked() -> None:
            reader = ArchiveReader(config)
            repository = AnalyticsRepository(config, archive=reader)
            await repository.open()
            try:
                first = await repository.events(Scope.of(2), 2, wanted)
                size = sum(len(bytes(event.payload or b"")) for event in first.rows)
                assert 100_000 < size < 120_000
                assert first.next is not None
                whole = await every_event(repository, 2, wanted)
                assert len({event.id for event in whole}) == len(whole) == 200
                assert whole == await every_event(repository, 2, replace(wanted, max_bytes=1 << 30))
            finally:
                await repository.close()
                reader.close()

        asyncio.run(asked())


class Hanging:
    """An archive whose store does not answer before `over`."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.reading = 0

    async def part(
        self, connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery
    ) -> Callable[[], Part] | None:
        return self._read

    def _read(self) -> Part:
        self.reading += 1
        self.over.wait(PATIENCE_S)
        return Part([], False)


def test_a_store_that_hangs_keeps_no_connection_and_few_threads(config: Config) -> None:
    with events_of(config) as events:
        events.connection.execute("INSERT INTO tenants (id, plan) VALUES (2, 'free')")

    async def asked() -> None:
        store = Hanging()
        repository = AnalyticsRepository(config, archive=store, connections=1, archive_s=0.5)
        await repository.open()
        try:
            hanging = [asyncio.create_task(repository.events(Scope.of(2), 2, TIMES)) for _ in range(8)]
            while store.reading == 0:
                await asyncio.sleep(0.01)
            assert not any(task.done() for task in hanging)
            await repository.check()  # by the only connection
            for task in hanging:
                with pytest.raises(ArchiveUnavailableError, match="did not answer within"):
                    await task
            with pytest.raises(ArchiveUnavailableError, match="did not answer within"):
                await repository.events(Scope.of(2), 2, TIMES)
            assert store.reading == ARCHIVE_READS
            store.over.set()
            assert (await repository.events(Scope.of(2), 2, TIMES)).rows == []
        finally:
            store.over.set()
            await repository.close()

    asyncio.run(asked())
