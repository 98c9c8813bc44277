"""Answers with a cache are those without one, whatever is written meanwhile, and whatever becomes of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.servers.redis_servers import RedisServer, redis_server
from support.tenants.tenant_rows import DAYS, FIRST, LAST, Made, Tables, shown
from weir.consumers.analytics.cache import DayCache, MemoryStore, Store
from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.rows import DailyPage, Scope
from weir.infra.config import Config
from weir.infra.errors import ConfigError
from weir.infra.redis import RedisStore

EVERY = DailyQuery("enterprise", FIRST, LAST, 1_000)
SCOPES = (Scope.all(), Scope.of(1, 2), Scope.of(3), Scope.of())


@pytest.fixture
def tables(config: Config) -> Iterator[Tables]:
    made = Tables(config)
    for number in range(1, 6):
        made.tenant(number)
    made.store(*(Made(tenant, day, 0, tenant) for tenant in range(1, 6) for day in DAYS))
    yield made
    made.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def opened(config: Config, *stores: Store | None) -> AsyncIterator[list[AnalyticsRepository]]:
    found = [AnalyticsRepository(config, None if store is None else DayCache(store)) for store in stores]
    for repository in found:
        await repository.open()
    try:
        yield found
    finally:
        for repository in found:
            await repository.close()


class Counting:
    """A store that counts what was found in it, and what was put there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.found = self.missing = self.put_in = 0

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        entries = await self._store.get(names)
        self.found += sum(entry is not None for entry in entries)
        self.missing += sum(entry is None for entry in entries)
        return entries

    async def put(self, entries: dict[bytes, bytes]) -> None:
        self.put_in += len(entries)
        await self._store.put(entries)

    async def close(self) -> None:
        await self._store.close()


def test_a_write_changes_the_days_that_it_touches_and_no_other(config: Config, tables: Tables) -> None:
    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            await repository.daily(Scope.all(), EVERY)
            assert (store.found, store.missing) == (0, len(DAYS))
            await repository.daily(Scope.all(), EVERY)
            assert (store.found, store.missing) == (len(DAYS), len(DAYS))
            tables.store(Made(1, DAYS[2], 1, 1))
            page = await repository.daily(Scope.all(), EVERY)
            assert shown(page.rows) == tables.expected("enterprise")
            assert (store.found, store.missing) == (2 * len(DAYS) - 1, len(DAYS) + 1)
            tables.tenant(1, "free")
            page = await repository.daily(Scope.all(), EVERY)
            assert shown(page.rows) == tables.expected("enterprise")
            assert store.missing == 2 * len(DAYS) + 1

    asyncio.run(asked())


places = st.none() | st.tuples(st.sampled_from(DAYS), st.integers(0, 6))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(1, 5), st.sampled_from(DAYS), st.integers(0, 10**6)),
        st.tuples(st.just("plan"), st.integers(1, 5), st.sampled_from(["enterprise", "free"]), st.just(0)),
        st.tuples(
            st.just("ask"), st.sampled_from([None, "enterprise", "free"]),
            st.tuples(st.sampled_from(DAYS), st.sampled_from([*DAYS, LAST]), st.sampled_from(SCOPES)),
            st.tuples(st.integers(1, 12), st.booleans(), places),
        ),
    ),
    min_size=4, max_size=14,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["memory", "small", "redis"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=steps)
def test_answers_with_a_cache_are_those_without(
    config: Config, tables: Tables, redis: RedisServer, kind: str, taken: list[tuple]
) -> None:
    async def asked() -> None:
        store = RedisStore(redis.url, 5.0) if kind == "redis" else MemoryStore(1 << 20 if kind == "memory" else 1_500)
        async with opened(config, store, None) as [kept, plain]:
            for step, *what in [*taken, *[step for step in taken if step[0] == "ask"]]:
                if step == "store":
                    tables.store(Made(what[0], what[1], 0, what[2]))
                elif step == "plan":
                    tables.tenant(what[0], what[1])
                else:
                    plan, (start, end, scope), (limit, percentiles, after) = what
                    wanted = DailyQuery(plan, start, end, limit, after, percentiles)
                    assert await kept.daily(scope, wanted) == await plain.daily(scope, wanted)

    asyncio.run(asked())


def test_two_schemas_in_one_redis_do_not_answer_for_each_other(
    config: Config, tables: Tables, redis: RedisServer
) -> None:
    """Their days have the same versions: the stamps tell them apart."""

    async def asked() -> tuple[DailyPage, DailyPage]:
        async with opened(config, RedisStore(redis.url, 5.0)) as [repository]:
            before = await repository.daily(Scope.all(), EVERY)
            tables.execute("DELETE FROM tenant_daily RETURNING day")
            tables.execute("DELETE FROM tenant_daily_versions RETURNING day")
            tables.events.clear()
            tables.store(*(Made(1, day, 0, 1) for day in DAYS))
            return before, await repository.daily(Scope.all(), EVERY)

    before, after = asyncio.run(asked())
    assert len(before.rows) == 5 * len(DAYS)
    assert shown(after.rows) == tables.expected("enterprise")


def test_redis_away_slow_or_with_garbage_makes_no_answer_wrong(
    config: Config, tables: Tables, redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    async def asked() -> None:
        nonlocal now
        store = RedisStore(redis.url, 0.5, clock=lambda: now)
        async with opened(config, store) as [repository]:

            async def right() -> None:
                page = await repository.daily(Scope.all(), EVERY)
                assert shown(page.rows) == tables.expected("enterprise")

            await right()
            with redis.client() as client:
                names = client.keys("weir:daily:*")
                assert len(names) == len(DAYS)
                for number, name in enumerate(names):
                    assert 5 * 3_600_000 < client.pttl(name) <= 6 * 3_600_000
                    if number % 3 == 0:
                        client.set(name, b"\xff" * 100)
                    elif number % 3 == 1:
                        client.set(name, client.get(names[0]) or b"")
                    else:
                        client.delete(name)
                        client.lpush(name, "a list")
            await right()
            tables.store(Made(2, DAYS[1], 5, 5))
            redis.pause()
            await right()
            said = capsys.readouterr()
            assert (said.out + said.err).count("redis.away") == 1
            await right()  # it rests: nothing is asked of it
            redis.resume()
            redis.kill()
            now += 60
            await right()
            redis.start()
            said = capsys.readouterr()
            assert (said.out + said.err).count("redis.away") == 0
            now += 600
            await right()
            said = capsys.readouterr()
            assert (said.out + said.err).count("redis.back") == 1
            await right()
            with redis.client() as client:
                assert len(client.keys("weir:daily:*")) == len(DAYS)

    asyncio.run(asked())


@pytest.mark.parametrize("address", ["redis://127.0.0.1:notaport/0", "http://127.0.0.1"])
def test_an_address_that_is_none_is_said_without_its_password(address: str) -> None:
    with pytest.raises(ConfigError, match="WEIR_REDIS must be"):
        RedisStore(address)


def test_a_plan_with_very_many_tenants_is_answered_past_the_cache(
    config: Config, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.consumers.analytics.days.MAX_TENANTS", 3)

    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            page = await repository.daily(Scope.all(), replace(EVERY, end=DAYS[3]))
            assert shown(page.rows) == tables.expected("enterprise", end=DAYS[3])
            assert store.missing == 0
            few = await repository.daily(Scope.of(1), EVERY)
            assert len(few.rows) == len(DAYS)
            assert store.missing == len(DAYS)

    asyncio.run(asked())


def test_a_short_page_reads_few_days_and_of_a_large_plan_none(config: Config, tables: Tables) -> None:
    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            page = await repository.daily(Scope.all(), replace(EVERY, limit=1))
            assert shown(page.rows) == tables.expected("enterprise")[:1]
            assert store.missing == store.put_in == 1
            for number in range(6, 10):
                tables.tenant(number)
            page = await repository.daily(Scope.all(), replace(EVERY, limit=1))
            assert shown(page.rows) == tables.expected("enterprise")[:1]
            assert store.missing == store.put_in == 1

    asyncio.run(asked())


def test_no_day_is_kept_that_a_plan_has_nothing_of(config: Config, tables: Tables) -> None:
    tables.tenant(6, "free")
    tables.store(Made(6, DAYS[1], 0, 1))

    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            for number in range(3):
                assert (await repository.daily(Scope.all(), replace(EVERY, plan=f"made-up-{number}"))).rows == []
            assert (store.missing, store.put_in) == (0, 0)
            page = await repository.daily(Scope.all(), replace(EVERY, plan="free"))
            assert shown(page.rows) == tables.expected("free") == [(6, DAYS[1], 1)]
            assert store.put_in == 1

    asyncio.run(asked())


@pytest.mark.parametrize("steps", [1, 2])
def test_days_with_few_of_a_plans_tenants_come_past_the_cache(
    config: Config, tables: Tables, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("weir.consumers.analytics.days._STEPS", steps)
    for number in range(6, 26):
        tables.tenant(number)

    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            for limit in (7, 12, 20, 29, 30, 31):
                found, wanted = [], replace(EVERY, limit=limit)
                while True:
                    page = await repository.daily(Scope.all(), wanted)
                    found += page.rows
                    assert page.next is None or len(page.rows) == limit
                    if page.next is None:
                        break
                    wanted = replace(wanted, after=page.next)
                assert shown(found) == tables.expected("enterprise")
        assert store.found > 0

    asyncio.run(asked())


def test_many_at_once_fetch_each_day_once(config: Config, tables: Tables) -> None:
    async def asked() -> None:
        store = Counting(MemoryStore(1 << 20))
        async with opened(config, store) as [repository]:
            pages = await asyncio.gather(*(repository.daily(Scope.all(), EVERY) for _ in range(30)))
            assert all(page == pages[0] for page in pages)
            assert store.put_in == len(DAYS)

    asyncio.run(asked())
