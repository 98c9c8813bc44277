"""From a WebSocket onto topic `broadcast`: bytes, order, acknowledgements, who may send, and what is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType
from confluent_kafka.admin import NewPartitions

from support.broadcast.broadcast_records import AUTH, acked, listening, read, sender, who
from support.command import weir
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka import topic_settings
from weir.infra.runtime.status import read_all
from weir.producers.broadcast import writer as broadcast_writer
from weir.producers.broadcast.server import run
from weir.schemas.broadcast import BINARY, FRAME_HEADER, partition_of
from weir.schemas.errors import WeirError
from weir.schemas.topics import BROADCAST


def alter(config: Config, max_message_bytes: int) -> None:
    """Sets what the topic takes."""
    topic_settings.alter(config, BROADCAST.name, {"max.message.bytes": str(max_message_bytes)})


def play(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE_S))


def test_every_message_becomes_one_record_byte_for_byte_in_order(config: Config) -> None:
    most = config.broadcast.max_message
    texts = ["", "x", "é€😀", "\x00\x7f", "{}" * 1000, "t" * most]
    blobs = [b"", b"\xff", bytes(range(256)) * 10, b"b" * most, bytes(most)]

    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            for text, blob in zip(texts, [*blobs, b"last"], strict=True):
                await socket.send_str(text)
                await socket.send_bytes(blob)
            await acked(socket, 12)

    play(main())
    wanted: list[tuple[bytes, object]] = []
    for text, blob in zip(texts, [*blobs, b"last"], strict=True):
        wanted += [(text.encode(), None), (blob, [(FRAME_HEADER, BINARY)])]
    assert [(m.value(), m.headers()) for m in read(config, 12)] == wanted
    assert {(m.partition(), m.key()) for m in read(config, 12)} == {(0, None)}


def test_a_message_in_fragments_is_one_record(config: Config) -> None:
    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            writer = socket._writer
            for data, opcode in ((b"Hel", WSMsgType.TEXT), (b"lo ", WSMsgType.CONTINUATION)):
                frame = bytes([int(opcode), 0x80 | len(data)]) + bytes(4) + data
                writer.transport.write(frame)
            writer.transport.write(b"\x80\x85\x00\x00\x00\x00world")
            await acked(socket, 1)

    play(main())
    assert [m.value() for m in read(config, 1)] == [b"Hello world"]


def test_a_channel_is_one_partition_and_keeps_its_order(config: Config) -> None:
    names = ["news", "weather", "a b/c?é", "x" * 128]

    async def send(name: str) -> None:
        async with ClientSession() as session:
            url = f"http://{config.host}:{config.broadcast.listener_port}/ws/manager"
            async with session.ws_connect(url, params={"channel": name, "ack": "1"}, headers=AUTH) as socket:
                for number in range(300):
                    await socket.send_str(str(number))
                await acked(socket, 300)

    async def main() -> None:
        async with listening(config):
            await asyncio.gather(*map(send, names))

    play(main())
    records = read(config, 1200)
    for name in names:
        own = [m for m in records if m.key() == name.encode()]
        assert [m.value() for m in own] == [str(number).encode() for number in range(300)]
        assert {m.partition() for m in own} == {partition_of(name, config.kafka.partitions)}


def test_acknowledgements_rise_and_are_only_for_those_who_ask(config: Config) -> None:
    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as asks, sender(config) as silent:
            for number in range(2_000):
                await asks.send_str(f"asks {number}")
                await silent.send_str(f"silent {number}")
            numbers = await acked(asks, 2_000)
            assert numbers == sorted(set(numbers))
            await silent.close()  # what came before the close frame is taken
            assert silent.close_code == 1000
            assert (await silent.receive()).type == WSMsgType.CLOSED

    play(main())
    silent = [m.value() for m in read(config, 4_000) if (m.value() or b"").startswith(b"silent")]
    assert silent == [f"silent {number}".encode() for number in range(2_000)]


async def refusal(config: Config, rest: str = "/websocket", given: dict[str, str] = AUTH) -> tuple[int, Any, str]:
    url = f"http://{config.host}:{config.broadcast.listener_port}{rest}"
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    async with ClientSession() as session, session.get(url, headers=headers | given) as response:
        return response.status, response.headers, await response.text()


def test_who_has_no_right_to_send_is_told_how_to_ask_for_it(config: Config) -> None:
    async def main() -> None:
        async with listening(config):
            for given in ({}, who("user", "guess"), who("guess", "pwd"), who("user", "pwd ")):
                status, headers, _ = await refusal(config, "/ws/manager?chanel=x", given)
                assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="weir", charset="UTF-8"')
            async with sender(config) as socket:
                assert not socket.closed

    play(main())


@pytest.mark.parametrize("of", ["127.0.0.1", "127.0.0.2"])
def test_guesses_hold_up_nobody_who_knows_the_password_at_the_same_address_or_another(config: Config, of: str) -> None:
    async def main() -> None:
        async with listening(config):
            guesses = [asyncio.create_task(refusal(config, given=who("user", str(n)))) for n in range(20)]
            done, pending = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
            while sum(task.result()[0] == 429 for task in done) < 15:
                more, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert pending
            async with ClientSession(connector=TCPConnector(local_addr=(of, 0))) as session:
                url = f"http://{config.host}:{config.broadcast.listener_port}/websocket"
                for _ in range(10):
                    async with session.ws_connect(url, headers=AUTH):
                        assert not all(task.done() for task in pending)
            statuses = [(await task)[0] for task in guesses]
            assert sorted(statuses) == [401] * 5 + [429] * 15
            turned_away = next(task.result() for task in guesses if task.result()[0] == 429)
            assert int(turned_away[1]["Retry-After"]) > 0

    play(main())


@pytest.mark.parametrize(
    ("query", "field"),
    [("chanel=x", "chanel"), ("channel=", "channel"), ("channel=" + "x" * 129, "channel"), ("channel=a%0Ab", "channel"),
     ("ack=yes", "ack"), ("ack=1&ack=1", "ack"), ("after=0-1", "after")],
)  # fmt: skip
def test_a_bad_query_is_answered_with_the_fields_name(config: Config, query: str, field: str) -> None:
    async def main() -> None:
        async with listening(config):
            status, _, text = await refusal(config, f"/websocket?{query}")
            assert (status, field in text) == (400, True)

    play(main())


def test_the_known_password_does_not_go_beyond_this_machine(environ: dict[str, str]) -> None:
    done = weir(environ | {"WEIR_HOST": "0.0.0.0"}, "run", "listener")
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert "WEIR_HOST=0.0.0.0" in line
    assert "WEIR_BROADCAST_PASSWORD" in line


def test_a_message_that_is_too_big_for_the_topic_is_refused_and_nothing_else(config: Config) -> None:
    kafka.ensure_topics(config, [BROADCAST])
    alter(config, 10_000)

    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            for number in range(1, 101):
                await socket.send_str(f"{number}" if number % 10 else "x" * 20_000)
            said = [await socket.receive_json(timeout=PATIENCE_S)]
            while "ack" not in said[-1] or said[-1]["ack"] < 99:
                said.append(await socket.receive_json(timeout=PATIENCE_S))
            refused = [s for s in said if "error" in s]
            assert [s["message"] for s in refused] == list(range(10, 101, 10))
            assert all("20000 bytes" in s["error"] for s in refused)

    play(main())
    assert [m.value() for m in read(config, 90)] == [b"%d" % n for n in range(1, 101) if n % 10]


def test_a_topic_that_takes_less_than_when_the_listener_started(config: Config) -> None:
    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            await socket.send_str("before")
            await acked(socket, 1)
            alter(config, 70_000)
            await socket.send_bytes(bytes(range(256)) * 100)
            await acked(socket, 2)
            sizes = [100_000 if number == 50 else 10 for number in range(3, 103)]
            for size in sizes:
                await socket.send_bytes(noise(size))
            said: list[dict[str, Any]] = [{}]
            while said[-1].get("ack") != 102:
                said.append(await socket.receive_json(timeout=PATIENCE_S))
            [refused] = [s for s in said if "error" in s]
            assert refused["message"] == 50

    play(main())
    assert len(read(config, 101)) == 101


def noise(size: int) -> bytes:
    """Returns bytes that cannot be compressed."""
    return random.Random(size).randbytes(size)


def test_a_message_beyond_the_limit_closes_its_connection_with_1009(config: Config) -> None:
    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket, sender(config, "?ack=1") as other:
            await socket.send_str("good")
            await acked(socket, 1)
            await socket.send_bytes(bytes(config.broadcast.max_message + 1))
            assert (await socket.receive(timeout=PATIENCE_S)).type == WSMsgType.CLOSE
            assert socket.close_code == 1009
            await other.send_str("goes on")
            await acked(other, 1)

    play(main())
    assert [m.value() for m in read(config, 2)] == [b"good", b"goes on"]


def test_senders_that_are_faster_than_kafka_are_slowed_down_and_lose_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_writer, "MAX_RECORDS", 20)

    async def send(number: int) -> None:
        async with sender(config, f"?ack=1&channel=c{number}") as socket:
            for message in range(2_000):
                await socket.send_str(f"{message}")
            await acked(socket, 2_000)

    async def main() -> None:
        async with listening(config):
            await asyncio.gather(*map(send, range(5)))

    play(main())
    records = read(config, 10_000)
    for number in range(5):
        own = [m.value() for m in records if m.key() == f"c{number}".encode()]
        assert own == [b"%d" % message for message in range(2_000)]


def test_a_small_message_does_not_overtake_a_large_one_for_which_there_is_no_room(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_writer, "MAX_BYTES", 300_000)
    messages = [noise(200_000) if number % 10 == 0 else b"%d" % number for number in range(200)]

    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            for message in messages:
                await socket.send_bytes(message)
            await acked(socket, 200)

    play(main())
    assert [m.value() for m in read(config, 200)] == messages


def test_a_topic_that_is_given_more_partitions_ends_the_listener_since_channels_move(config: Config) -> None:
    async def main() -> None:
        work = asyncio.create_task(run(config))
        await until_async(lambda: [s.state for s in read_all(config)] == ["running"])
        admin = kafka.admin(config)
        for future in admin.create_partitions([NewPartitions(config.topic(BROADCAST.name), 9)]).values():
            future.result()
        with pytest.raises(WeirError, match="9 partitions now"):
            await work

    play(main())


def test_the_status_counts_what_happens(config: Config) -> None:
    async def main() -> None:
        async with listening(config), sender(config, "?ack=1") as socket:
            await socket.send_str("one")
            await acked(socket, 1)
            facts = {"senders": 1, "messages": 1, "refused": 0, "unacknowledged": 0}
            await until_async(lambda: [s.detail for s in read_all(config)] == [facts])
        assert read_all(config) == []

    play(main())
