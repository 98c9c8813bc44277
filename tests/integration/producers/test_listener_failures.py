"""The listener when something ends: Kafka, the listener by kill -9, the listener in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass

import pytest
from aiohttp import ClientConnectionError, ClientWebSocketResponse

from support.broadcast.broadcast_records import acked, by_channel, listening, sender
from support.command import Running, started
from support.servers.own_servers import OwnServer
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.runtime.status import read_all


@dataclass
class Sent:
    """The record of one sender: its highest acknowledgement, and how its connection ended."""

    name: str
    acked: int = 0
    waiting: int = 0
    sent: int = 0
    close_code: int | None = None


async def keep_sending(config: Config, sent: Sent, most: int = 10**9, ahead: int = 500) -> None:
    """Sends 0, 1, 2, … to the channel of that name, `ahead` of the acknowledgements at most, until the end."""
    async with sender(config, f"?ack=1&channel={sent.name}") as socket:
        news = asyncio.Event()

        async def listen() -> None:
            async for message in socket:
                said = message.json()
                if "ack" in said:
                    assert said["ack"] > sent.acked
                    sent.acked = said["ack"]
                else:
                    assert said == {"waiting": "Kafka does not answer"}
                    sent.waiting += 1
                news.set()
            sent.close_code = socket.close_code
            news.set()

        listener = asyncio.create_task(listen())
        with contextlib.suppress(ClientConnectionError):
            while sent.sent < most and not listener.done():
                if sent.sent - sent.acked < ahead:
                    await socket.send_str(str(sent.sent))
                    sent.sent += 1
                else:
                    news.clear()
                    await news.wait()
            while sent.acked < most and not listener.done():
                news.clear()
                await news.wait()
        if sent.acked >= most:
            listener.cancel()
        await asyncio.wait([listener])


class Flood:
    """Sends all of the messages as fast as they are taken."""

    def __init__(self, socket: ClientWebSocketResponse, messages: list[bytes]) -> None:
        self._sent, self._asked = 0, [-1] * 100
        self.task = asyncio.create_task(self._send(socket, messages))

    async def _send(self, socket: ClientWebSocketResponse, messages: list[bytes]) -> None:
        for message in messages:
            await socket.send_bytes(message)
            self._sent += 1

    def is_stuck(self) -> bool:
        """Whether nothing was taken between the last hundred times that this was asked."""
        assert not self.task.done()
        self._asked = [*self._asked[1:], self._sent]
        return len(set(self._asked)) == 1


def test_while_kafka_is_away_nothing_is_read_and_afterwards_nothing_is_missing(
    kafka_of_its_own: tuple[Config, OwnServer],
) -> None:
    config, server = kafka_of_its_own
    senders = [Sent(f"c{n}") for n in range(3)]

    async def main() -> None:
        async with listening(config):
            sending = [asyncio.create_task(keep_sending(config, s, most=5_000, ahead=50)) for s in senders]
            await until_async(lambda: all(s.acked > 100 for s in senders))
            server.kill()
            await until_async(lambda: all(s.waiting == 1 for s in senders))
            await until_async(lambda: [s.state for s in read_all(config)] == ["waiting"])
            async with sender(config, "?ack=1&channel=late") as late:
                assert await late.receive_json(timeout=PATIENCE_S) == {"waiting": "Kafka does not answer"}
                flood = Flood(late, [bytes(config.broadcast.max_message)] * 80)
                await until_async(flood.is_stuck)  # 20 MB are more than the kernel keeps
                assert all(s.sent < 5_000 for s in senders)
                server.start()  # from this thread: it ends with the thread that starts it
                await acked(late, 80)
            await asyncio.gather(*sending)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    found = by_channel(config)
    for s in senders:
        assert found[s.name] == [b"%d" % n for n in range(5_000)]
    assert len(found["late"]) == 80


@pytest.mark.long
def test_it_ends_in_time_though_kafka_is_away_and_acknowledges_nothing(
    kafka_of_its_own: tuple[Config, OwnServer],
) -> None:
    config, server = kafka_of_its_own
    told = Sent("c")

    async def main() -> None:
        async with listening(config):
            sending = asyncio.create_task(keep_sending(config, told))
            await until_async(lambda: told.acked > 0)
            server.kill()
            await until_async(lambda: told.waiting)
        await sending
        server.start()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert told.close_code == 1001
    assert told.acked < told.sent
    found = by_channel(config)["c"]
    assert found == [b"%d" % n for n in range(len(found))]
    assert len(found) >= told.acked


@pytest.mark.long
def test_it_waits_for_a_kafka_that_is_not_there_yet(kafka_of_its_own: tuple[Config, OwnServer]) -> None:
    config, server = kafka_of_its_own
    server.stop()

    async def main() -> None:
        async def come() -> None:
            await until_async(lambda: [s.state for s in read_all(config)] == ["waiting"])
            server.start()

        coming = asyncio.create_task(come())
        async with listening(config), sender(config, "?ack=1") as socket:
            await socket.send_str("hello")
            await acked(socket, 1)
        await coming

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


async def under_load(config: Config, listener: Running, number: signal.Signals) -> list[Sent]:
    """Three senders, and the signal once each has 2 000 acknowledgements; what they were told."""
    senders = [Sent(f"c{n}") for n in range(3)]
    await until_async(lambda: any(s.pid == listener.process.pid and s.state == "running" for s in read_all(config)))
    sending = [asyncio.create_task(keep_sending(config, s)) for s in senders]
    await until_async(lambda: all(s.acked > 2_000 for s in senders))
    listener.process.send_signal(number)
    await asyncio.wait_for(asyncio.gather(*sending), PATIENCE_S)
    return senders


def test_what_was_acknowledged_before_a_kill_is_in_kafka(config: Config, environ: dict[str, str]) -> None:
    with started(environ, "run", "listener") as listener:
        senders = asyncio.run(under_load(config, listener, signal.SIGKILL))
    found = by_channel(config)
    for s in senders:
        assert s.acked <= len(found[s.name]) <= s.sent
        assert found[s.name] == [b"%d" % n for n in range(len(found[s.name]))]


def test_a_listener_that_is_told_to_end_flushes_and_acknowledges_what_it_read(
    config: Config, environ: dict[str, str]
) -> None:
    with started(environ, "run", "listener") as listener:
        senders = asyncio.run(under_load(config, listener, signal.SIGTERM))
        assert listener.process.wait(PATIENCE_S) == 0
    found = by_channel(config)
    for s in senders:
        assert s.close_code == 1001
        assert found[s.name] == [b"%d" % n for n in range(s.acked)]
    assert read_all(config) == []
