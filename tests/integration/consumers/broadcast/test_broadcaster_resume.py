"""The broadcaster on a real Kafka: the last messages, those behind a position, and what of them is gone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from support.broadcast.broadcast_subscribers import Sender, run
from support.broadcast.broadcasters import broadcasting, trim
from support.wait import PATIENCE_S, until_async
from weir.consumers.broadcast.catch_up import _READ
from weir.consumers.broadcast.source import Edges, History
from weir.infra.config import Config
from weir.infra.websocket import Limits
from weir.schemas.broadcast import format_position, parse_position, partition_of


@pytest.mark.parametrize("memory", [0, 64 << 20])
def test_the_last_ones_come_first_then_the_new_ones(config: Config, sender: Sender, memory: int) -> None:
    for n in range(30):
        sender.send(f"old{n}", channel="news")
        sender.send(f"noise{n}", channel=f"c{n}")

    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=memory)) as running:
            client = await running.subscribe("channel=news&last=5")
            assert (await client.hello())[1] is True
            sender.send("new", channel="news")
            assert await client.texts(6) == [*(f"old{n}" for n in range(25, 30)), "new"]
            more = await running.subscribe("channel=news&last=1000")
            await more.hello()
            assert await more.texts(31) == [*(f"old{n}" for n in range(30)), "new"]
            everything = await running.subscribe("last=61")
            await everything.hello()
            assert len(set(await everything.texts(61))) == 61

    run(main())


@pytest.mark.parametrize("memory", [0, 64 << 20])
def test_the_last_ones_of_all_channels_are_the_latest_also_after_a_start(
    config: Config, sender: Sender, memory: int
) -> None:
    channels = ["a", "b", "c", "news"]
    assert len({partition_of(channel, config.kafka.partitions) for channel in channels}) > 1
    for n in range(40):
        sender.send(f"n{n}", channel=channels[n % len(channels)], at=1_700_000_000_000 + n)

    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=memory)) as running:
            client = await running.subscribe("last=8")
            await client.hello()
            assert sorted(await client.texts(8)) == sorted(f"n{n}" for n in range(32, 40))

    run(main())


def test_what_comes_behind_an_end_that_was_reached_is_read_as_well(config: Config, sender: Sender) -> None:
    sender.send("n0", "n1")
    history = History(config)
    try:
        entries, position = history.read({0: 0}, {0: 2}, 1 << 20)
        assert [entry.data for entry in entries] == [b"n0", b"n1"]
        while not history._reader.is_at_end:
            assert history._reader.read(0.1) == []
        sender.send("n2", "n3", "n4")
        entries, position = history.read(position, {0: 5}, 1 << 20)
        assert ([entry.data for entry in entries], position) == ([b"n2", b"n3", b"n4"], {0: 5})
    finally:
        history.close()


def test_who_asks_for_much_and_does_not_read_has_one_read_waiting(config: Config, sender: Sender) -> None:
    sender.send(*["x" * 10_000] * 3_000)

    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=0), Limits(idle=60)) as running:
            client = await running.subscribe("after=0-0.1-0.2-0.3-0")
            (connection,) = running.server._connections
            await until_async(lambda: connection.waiting)
            waited = [connection.waiting]
            while len(waited) < 50 or len(set(waited[-50:])) > 1:  # until nothing moves any more
                await asyncio.sleep(0.01)
                waited.append(connection.waiting)
            assert 0 < max(waited) <= _READ + 20_000
            assert await client.hello() == ("0-0.1-0.2-0.3-0", True)
            assert len(await client.texts(3_000)) == 3_000

    run(main())


def test_what_is_deleted_while_the_last_ones_are_looked_for_ends_nothing(
    config: Config, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.send(*(f"n{n}" for n in range(50)), channel="news")
    cuts: list[dict[int, int]] = []
    edges = History.edges

    def then_trimmed(self: History) -> Edges:
        found = edges(self)
        if cuts:
            trim(config, cuts.pop())
        return found

    monkeypatch.setattr(History, "edges", then_trimmed)

    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=0)) as running:
            await (await running.subscribe("channel=news&last=1")).texts(2)
            cuts.append({partition_of("news", config.kafka.partitions): 40})
            client = await running.subscribe("channel=news&last=100")
            assert (await client.hello())[1] is True
            assert await client.texts(10) == [f"n{n}" for n in range(40, 50)]
            assert not cuts

    run(main())


def test_many_who_look_for_channels_that_are_not_there_do_not_keep_others_waiting(
    config: Config, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [f"n{n}" for n in range(100)]
    sender.send(*messages, channel="news")
    come, done = threading.Event(), threading.Event()
    searched: list[bool] = []
    latest = History.latest

    def slow(self: History, *arguments: Any) -> dict[int, int]:
        assert come.wait(PATIENCE_S)
        if len(searched) == 10:
            done.wait(PATIENCE_S)
        searched.append(done.is_set())
        return latest(self, *arguments)

    monkeypatch.setattr(History, "latest", slow)

    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=0)) as running:
            looking = [await running.subscribe(f"channel=none{n}&last=1") for n in range(20)]
            client = await running.subscribe(f"channel=news&after={partition_of('news', config.kafka.partitions)}-0")
            come.set()
            assert await client.hello() == (f"{partition_of('news', config.kafka.partitions)}-0", True)
            assert await client.texts(100) == messages
            done.set()
            for other in looking:
                await other.hello()

    run(main())
    assert len(searched) == 20
    assert searched[10]


@pytest.mark.parametrize("memory", [0, 2_000, 64 << 20])
@pytest.mark.parametrize("query", ["channel=news", ""])
def test_who_resumes_with_its_position_gets_what_it_lacks_and_nothing_twice(
    config: Config, sender: Sender, memory: int, query: str
) -> None:
    async def main() -> None:
        async with broadcasting(config.replace(WEIR_BROADCAST_MEMORY=memory)) as running:
            client = await running.subscribe(f"{query}&envelope=1")
            assert (await client.hello())[1] is True
            names = [f"n{n}" for n in range(100)]
            sender.send(*names, channel="news")
            sender.send(*names, channel="sport" if not query else "news")
            got = await client.objects(70)
            await client.socket.close()
            again = await running.subscribe(f"{query}&after={got[-1]['position']}&envelope=1")
            assert await again.hello() == (got[-1]["position"], True)
            got += await again.objects(130)
            sender.send("live", channel="news")
            assert [m["data"] for m in await again.objects(1)] == ["live"]
            for channel in {m["channel"] for m in got}:
                assert [m["data"] for m in got if m["channel"] == channel] == names * (2 if query else 1)

    run(main())


def test_an_envelope_says_where_the_message_stands(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            client = await running.subscribe("envelope=1&channel=news")
            await client.hello()
            everything = await running.subscribe("envelope=1")
            start, _ = await everything.hello()
            sender.send("text", b"\xff", channel="news")
            partition = partition_of("news", config.kafka.partitions)
            assert await client.objects(2) == [
                {"position": f"{partition}-1", "channel": "news", "data": "text"},
                {"position": f"{partition}-2", "channel": "news", "base64": "/w=="},
            ]
            first = (await everything.objects(1))[0]["position"]
            assert parse_position(first) == parse_position(start) | {partition: 1}

    run(main())


def test_who_asks_for_what_was_trimmed_is_told_and_gets_the_rest(config: Config, sender: Sender) -> None:
    sender.send(*(f"{n}" for n in range(10)))
    trim(config, {0: 6})

    async def main() -> None:
        async with broadcasting(config) as running:
            client = await running.subscribe(
                "after=" + format_position(dict.fromkeys(range(config.kafka.partitions), 0))
            )
            assert await client.hello() == ("0-6.1-0.2-0.3-0", False)
            assert await client.texts(4) == ["6", "7", "8", "9"]
            beyond = await running.subscribe("after=0-1000.1-0.2-0.3-0")
            assert await beyond.hello() == ("0-6.1-0.2-0.3-0", False)

    run(main())


def test_what_is_trimmed_is_forgotten(config: Config, sender: Sender) -> None:
    sender.send(*(f"{n}" for n in range(10)))

    async def main() -> None:
        async with broadcasting(config) as running:
            assert running.broadcaster.facts()["in_memory"] == 10
            trim(config, {0: 6})
            await until_async(lambda: running.broadcaster.facts()["in_memory"] == 4)
            client = await running.subscribe("after=0-2.1-0.2-0.3-0")
            assert await client.hello() == ("0-6.1-0.2-0.3-0", False)
            assert await client.texts(4) == ["6", "7", "8", "9"]

    run(main())
