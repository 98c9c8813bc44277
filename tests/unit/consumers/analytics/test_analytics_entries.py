"""Entries: what they are named after, what is taken for one, how much is kept, and who fetches what is missing."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.analytics.cache import ENTRY_OVERHEAD, DayCache, MemoryStore, Rows, entry_name, seal, unseal
from weir.consumers.analytics.rows import Daily

DAY = dt.date(2026, 1, 31)
ROWS = [Daily(7, DAY, 2, 3.0, 1.5, 1.0, 2.0, p50=1.0, p95=2.0, p99=2.0), Daily(8, DAY, 1, 0.5, 0.5, 0.5, 0.5)]
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def test_whatever_an_entry_depends_on_is_in_its_name() -> None:
    names = {
        entry_name(day, stamp, tenants, plan, scope, percentiles)
        for day in (DAY, dt.date(2026, 1, 30)) for stamp in (ONE, TWO) for tenants in (ONE, TWO)
        for plan in (None, "", "a") for scope in ("*", "7", "7,8") for percentiles in (True, False)
    }  # fmt: skip
    assert len(names) == 2 * 2 * 2 * 3 * 3 * 2


def test_an_entry_is_read_as_it_was_written() -> None:
    assert unseal(b"a", seal(b"a", ROWS)) == ROWS
    assert unseal(b"a", seal(b"a", [])) == []


@given(st.data())
def test_nothing_else_is_taken_for_an_entry(data: st.DataObject) -> None:
    entry = bytearray(seal(b"a", ROWS))
    assert unseal(b"b", bytes(entry)) is None
    assert unseal(b"a", data.draw(st.binary(max_size=100))) is None
    place = data.draw(st.integers(0, len(entry) - 1))
    entry[place] ^= data.draw(st.integers(1, 255))
    assert unseal(b"a", bytes(entry)) is None
    assert unseal(b"a", bytes(entry[:place])) is None
    assert unseal(b"a", None) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=60))
def test_memory_holds_what_was_used_last_within_its_bytes(puts: list[tuple[int, int]]) -> None:
    size = 3 * (ENTRY_OVERHEAD + 100)
    store, model = MemoryStore(size), dict[bytes, bytes]()

    async def put() -> None:
        for number, length in puts:
            name, entry = b"%d" % number, b"x" * length
            await store.put({name: entry})
            model.pop(name, None)
            model[name] = entry
            while sum(len(n) + len(e) + ENTRY_OVERHEAD for n, e in model.items()) > size:
                del model[next(iter(model))]
            assert store.used == sum(len(n) + len(e) + ENTRY_OVERHEAD for n, e in model.items()) <= size
            looked = b"%d" % (number // 2)
            assert await store.get([looked]) == [model.get(looked)]
            if looked in model:
                model[looked] = model.pop(looked)
        names = [b"%d" % number for number in range(10)]
        assert await store.get(names) == [model.get(name) for name in names]

    asyncio.run(put())


class Fetcher:
    """Counts what is asked of it, and answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[dt.date]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, days: list[dt.date]) -> Mapping[dt.date, Rows]:
        self.asked.append(days)
        await self.open.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return {day: [Daily(7, day, 1, 1.0, 1.0, 1.0, 1.0)] for day in days}


def named(*days: dt.date) -> dict[dt.date, bytes]:
    return {day: entry_name(day, ONE, ONE, None, "*", True) for day in days}


def test_a_stampede_asks_once_for_each_day() -> None:
    async def stampede() -> None:
        cache, fetch = DayCache(MemoryStore(1 << 20)), Fetcher()
        days = [dt.date(2026, 1, n) for n in range(1, 5)]
        askers = [asyncio.create_task(cache.days(named(*days[n % 3 : n % 3 + 2]), fetch)) for n in range(30)]
        await asyncio.sleep(0)
        fetch.open.set()
        for asker in await asyncio.gather(*askers):
            assert len(asker) == 2
        assert sorted(day for asked in fetch.asked for day in asked) == days
        await cache.days(named(*days), fetch)
        assert sum(map(len, fetch.asked)) == 4

    asyncio.run(stampede())


def test_who_waited_for_one_that_failed_asks_for_itself() -> None:
    async def failing() -> None:
        cache, fetch = DayCache(MemoryStore(1 << 20)), Fetcher()
        fetch.error = RuntimeError("away")
        first = asyncio.create_task(cache.days(named(DAY), fetch))
        second = asyncio.create_task(cache.days(named(DAY), fetch))
        await asyncio.sleep(0)
        fetch.open.set()
        with pytest.raises(RuntimeError, match="away"):
            await first
        assert list(await second) == [DAY]
        assert list(await cache.days(named(DAY), fetch)) == [DAY]

    asyncio.run(failing())


def test_who_waited_for_one_that_gave_up_asks_for_itself() -> None:
    async def cancelled() -> None:
        cache, fetch = DayCache(MemoryStore(1 << 20)), Fetcher()
        first = asyncio.create_task(cache.days(named(DAY), fetch))
        second = asyncio.create_task(cache.days(named(DAY), fetch))
        await asyncio.sleep(0)
        first.cancel()
        fetch.open.set()
        assert list(await second) == [DAY]

    asyncio.run(cancelled())
