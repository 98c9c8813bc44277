"""The broadcaster on a real Kafka: who gets what, from where, and what becomes of it when something breaks."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from confluent_kafka import TopicPartition

from broadcast_subscribers import Client, Sender, run
from consumers.broadcast_source import Edges, History
from consumers.broadcaster import Broadcaster
from consumers.catch_up import _READ
from feed_servers import until
from infra import kafka as clients
from infra.config import Config
from infra.websocket import Limits, WebSocketServer
from schemas.broadcast import format_position, parse_position, partition_of
from schemas.topics import BROADCAST


class Running:
    def __init__(self, server: WebSocketServer, broadcaster: Broadcaster, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.broadcaster = broadcaster
        self._session = session

    async def subscribe(self, query: str = "", path: str = "/websocket") -> Client:
        socket = await self._session.ws_connect(
            f"http://127.0.0.1:{self.server.port}{path}{query and '?' + query}", autoclose=False, max_msg_size=0
        )
        return Client(socket)

    async def refused(self, query: str) -> tuple[int, str]:
        async with self._session.get(
            f"http://127.0.0.1:{self.server.port}/websocket?{query}",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        ) as response:
            return response.status, await response.text()


@asynccontextmanager
async def broadcasting(config: Config, limits: Limits | None = None) -> AsyncIterator[Running]:
    broadcaster = Broadcaster(config)
    await broadcaster.open()
    server = WebSocketServer(broadcaster.routes(), limits or Limits())
    await server.start("127.0.0.1", 0)
    work = asyncio.create_task(broadcaster.work())
    try:
        async with aiohttp.ClientSession() as session:
            yield Running(server, broadcaster, session)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await server.stop(1001, broadcaster.farewell)
        await broadcaster.close()


def trim(config: Config, keep_from: dict[int, int]) -> None:
    """Deletes the records before these offsets."""
    topic = config.topic(BROADCAST.name)
    places = [TopicPartition(topic, p, offset) for p, offset in keep_from.items()]
    client = clients.admin(config)  # by name: without it there is nobody to hear the answer
    for future in client.delete_records(places).values():
        future.result(30)


@pytest.fixture
def sender(config: Config) -> Sender:
    clients.ensure_topics(config, (BROADCAST,))
    return Sender(config)


@pytest.mark.parametrize("path", ["/websocket", "/ws/broadcast", "/ws/broadcaster"])
def test_a_subscriber_gets_what_is_sent_after_it_joined_byte_for_byte(
    config: Config, sender: Sender, path: str
) -> None:
    sender.send("before")
    messages = ["a", "", "é\x00ü", *(f"{n:06}" for n in range(500))]

    async def main() -> None:
        async with broadcasting(config) as running:
            one, other = await running.subscribe(path=path), await running.subscribe(path=path)
            sender.send(*messages)
            assert await one.texts(len(messages)) == messages
            assert await other.texts(len(messages)) == messages
            sender.send(b"\x00\xff", "text again")
            assert await one.socket.receive_bytes(timeout=30) == b"\x00\xff"
            assert await one.texts(1) == ["text again"]

    run(main())


def test_broadcasters_side_by_side_each_have_everything(config: Config, sender: Sender) -> None:
    messages = [f"{n:04}" for n in range(300)]

    async def main() -> None:
        async with broadcasting(config) as one, broadcasting(config) as other:
            clients = [await running.subscribe() for running in (one, other)]
            sender.send(*messages)
            for client in clients:
                assert await client.texts(len(messages)) == messages

    run(main())


def test_a_channel_is_a_subscribers_own_and_without_one_it_gets_all(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            everything, news, weather = [
                await running.subscribe(query) for query in ("", "channel=news", "channel=weather%20in%20%C3%96")
            ]
            for n in range(20):
                sender.send(f"n{n}", channel="news")
                sender.send(f"w{n}", channel="weather in Ö")
                sender.send(f"d{n}")
            assert await news.texts(20) == [f"n{n}" for n in range(20)]
            assert await weather.texts(20) == [f"w{n}" for n in range(20)]
            got = await everything.texts(60)
            for kind in "nwd":
                assert [text for text in got if text[0] == kind] == [f"{kind}{n}" for n in range(20)]

    run(main())


@pytest.mark.parametrize("memory", [0, 64 << 20])
def test_the_last_ones_come_first_then_the_new_ones(config: Config, sender: Sender, memory: int) -> None:
    for n in range(30):
        sender.send(f"old{n}", channel="news")
        sender.send(f"noise{n}", channel=f"c{n}")

    async def main() -> None:
        async with broadcasting(dataclasses.replace(config, broadcast_memory=memory)) as running:
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
    assert len({partition_of(channel, config.partitions) for channel in channels}) > 1
    for n in range(40):
        sender.send(f"n{n}", channel=channels[n % len(channels)], at=1_700_000_000_000 + n)

    async def main() -> None:
        async with broadcasting(dataclasses.replace(config, broadcast_memory=memory)) as running:
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
        while not history._reader.at_end:
            assert history._reader.read(0.1, 100) == ([], [])
        sender.send("n2", "n3", "n4")
        entries, position = history.read(position, {0: 5}, 1 << 20)
        assert ([entry.data for entry in entries], position) == ([b"n2", b"n3", b"n4"], {0: 5})
    finally:
        history.close()


def test_who_asks_for_much_and_does_not_read_has_one_read_waiting(config: Config, sender: Sender) -> None:
    sender.send(*["x" * 10_000] * 3_000)

    async def main() -> None:
        async with broadcasting(dataclasses.replace(config, broadcast_memory=0), Limits(idle=60)) as running:
            client = await running.subscribe("after=0-0.1-0.2-0.3-0")
            (connection,) = running.server._connections
            await until(lambda: connection.waiting)
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
        async with broadcasting(dataclasses.replace(config, broadcast_memory=0)) as running:
            await (await running.subscribe("channel=news&last=1")).texts(2)
            cuts.append({partition_of("news", config.partitions): 40})
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
        assert come.wait(20)
        if len(searched) == 10:
            done.wait(20)
        searched.append(done.is_set())
        return latest(self, *arguments)

    monkeypatch.setattr(History, "latest", slow)

    async def main() -> None:
        async with broadcasting(dataclasses.replace(config, broadcast_memory=0)) as running:
            looking = [await running.subscribe(f"channel=none{n}&last=1") for n in range(20)]
            client = await running.subscribe(f"channel=news&after={partition_of('news', config.partitions)}-0")
            come.set()
            assert await client.hello() == (f"{partition_of('news', config.partitions)}-0", True)
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
        async with broadcasting(dataclasses.replace(config, broadcast_memory=memory)) as running:
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
            partition = partition_of("news", config.partitions)
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
            client = await running.subscribe("after=" + format_position(dict.fromkeys(range(config.partitions), 0)))
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
            await until(lambda: running.broadcaster.facts()["in_memory"] == 4)
            client = await running.subscribe("after=0-2.1-0.2-0.3-0")
            assert await client.hello() == ("0-6.1-0.2-0.3-0", False)
            assert await client.texts(4) == ["6", "7", "8", "9"]

    run(main())


@pytest.mark.parametrize(
    ("query", "field"),
    [("chanel=x", "chanel"), ("channel=", "channel"), ("channel=a%0Ab", "channel"), ("after=x", "after"),
     ("last=-1", "last"), ("last=1e3", "last"), ("last=1&after=0-1", "last"), ("envelope=yes", "envelope"),
     ("hello=", "hello"), ("channel=a&channel=b", "channel")],
)  # fmt: skip
def test_a_query_that_cannot_be_is_refused_and_the_field_named(
    config: Config, sender: Sender, query: str, field: str
) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            status, text = await running.refused(query)
            assert status == 400
            assert f"`{field}`" in text

    run(main())


def test_the_hello_comes_where_it_is_asked_for(config: Config, sender: Sender) -> None:
    sender.send("x")

    async def main() -> None:
        async with broadcasting(config) as running:
            client = await running.subscribe("hello=1")
            assert await client.hello() == ("0-1.1-0.2-0.3-0", True)

    run(main())


def test_a_slow_subscriber_is_closed_and_the_others_get_everything(config: Config, sender: Sender) -> None:
    limits = Limits(queue=100_000, idle=60)

    async def main() -> None:
        async with broadcasting(config, limits) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port, limit=1024)
            writer.write(
                b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            other = await running.subscribe()
            await until(lambda: running.broadcaster.facts()["subscribers"] == 2)
            messages = [f"{n:03}".ljust(200_000, ".") for n in range(60)]
            for message in messages:
                sender.send(message)
                assert await other.texts(1) == [message]
            rest = await reader.read()
            await until(lambda: running.broadcaster.facts()["subscribers"] == 1)
            assert b"too slow: " in rest[-140:]
            writer.close()

    run(main())


def test_a_flood_from_kafka_closes_nobody_who_reads(config: Config, sender: Sender) -> None:
    messages = [f"{n:06}".ljust(1_000, ".") for n in range(20_000)]
    config = dataclasses.replace(config, broadcast_queue=200_000)

    async def main() -> None:
        async with broadcasting(config, Limits.of(config)) as running:
            clients = [await running.subscribe() for _ in range(3)]
            sending = asyncio.create_task(asyncio.to_thread(sender.send, *messages))
            for got in await asyncio.gather(*(client.texts(len(messages)) for client in clients)):
                assert got == messages
            await sending

    run(main())


def test_a_subscriber_that_says_much_is_closed_and_the_others_get_everything(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            other, floods, talks = [await running.subscribe(path="/ws/broadcast") for _ in range(3)]
            await talks.socket.send_str("x" * 4_097)
            assert (await talks.end())[0] == 1009
            for _ in range(200):
                await floods.socket.ping()
            assert await floods.end() == (1008, "too many frames: 10 a second may be sent here")
            sender.send("hello")
            assert await other.texts(1) == ["hello"]

    run(main())


def test_who_never_reads_is_gone_also_when_little_is_sent(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config, Limits(idle=0.4)) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
            writer.write(
                b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await until(lambda: running.broadcaster.facts()["subscribers"] == 1)
            sender.send("one")
            await until(lambda: running.broadcaster.facts()["subscribers"] == 0)
            writer.close()

    run(main())


def test_when_it_stops_everyone_is_told_where_to_go_on(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            client = await running.subscribe("channel=news")
            sender.send("a", "b", channel="news")
            assert await client.texts(2) == ["a", "b"]
            stopping = asyncio.create_task(running.server.stop(1001, running.broadcaster.farewell))
            assert await client.end() == (1001, f"position={partition_of('news', config.partitions)}-2")
            await client.socket.close()
            await stopping
        sender.send("c", channel="news")
        async with broadcasting(config) as running:
            again = await running.subscribe(f"channel=news&after={partition_of('news', config.partitions)}-2")
            assert (await again.hello())[1] is True
            assert await again.texts(1) == ["c"]

    run(main())
