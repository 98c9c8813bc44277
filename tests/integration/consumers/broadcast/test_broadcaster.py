"""The broadcaster on a real Kafka: who gets what, live, and who is closed."""

from __future__ import annotations

import asyncio

import pytest

from support.broadcast.broadcast_subscribers import Sender, run
from support.broadcast.broadcasters import broadcasting
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.websocket import Limits
from weir.schemas.broadcast import partition_of


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
            assert await one.socket.receive_bytes(timeout=PATIENCE_S) == b"\x00\xff"
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
            await until_async(lambda: running.broadcaster.facts()["subscribers"] == 2)
            messages = [f"{n:03}".ljust(200_000, ".") for n in range(60)]
            for message in messages:
                sender.send(message)
                assert await other.texts(1) == [message]
            rest = await reader.read()
            await until_async(lambda: running.broadcaster.facts()["subscribers"] == 1)
            assert b"too slow: " in rest[-140:]
            writer.close()

    run(main())


def test_a_flood_from_kafka_closes_nobody_who_reads(config: Config, sender: Sender) -> None:
    messages = [f"{n:06}".ljust(1_000, ".") for n in range(20_000)]
    config = config.replace(WEIR_BROADCAST_QUEUE=200_000)

    async def main() -> None:
        async with broadcasting(config, Limits.of(config.broadcast)) as running:
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
            assert await floods.end() == (1008, "too many frames: at most 10 a second are allowed")
            sender.send("hello")
            assert await other.texts(1) == ["hello"]

    run(main())


def test_who_never_reads_is_gone_also_when_little_is_sent(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config, Limits(idle=1.0)) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
            writer.write(
                b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await until_async(lambda: running.broadcaster.facts()["subscribers"] == 1)
            sender.send("one")
            await until_async(lambda: running.broadcaster.facts()["subscribers"] == 0)
            writer.close()

    run(main())


def test_when_it_stops_everyone_is_told_where_to_go_on(config: Config, sender: Sender) -> None:
    async def main() -> None:
        async with broadcasting(config) as running:
            client = await running.subscribe("channel=news")
            sender.send("a", "b", channel="news")
            assert await client.texts(2) == ["a", "b"]
            stopping = asyncio.create_task(running.server.stop(1001, running.broadcaster.close_reason))
            assert await client.end() == (1001, f"position={partition_of('news', config.kafka.partitions)}-2")
            await client.socket.close()
            await stopping
        sender.send("c", channel="news")
        async with broadcasting(config) as running:
            again = await running.subscribe(f"channel=news&after={partition_of('news', config.kafka.partitions)}-2")
            assert (await again.hello())[1] is True
            assert await again.texts(1) == ["c"]

    run(main())
