"""The broadcaster when something ends: Kafka, the broadcaster by kill -9, the broadcaster in order."""

from __future__ import annotations

import asyncio
import signal

import aiohttp
import pytest

from support.broadcast.broadcast_records import beside
from support.broadcast.broadcast_subscribers import Client, Sender, run
from support.command import Running, started
from support.servers.own_servers import OwnServer
from support.wait import PATIENCE_S, until_async
from weir.consumers.broadcast import server as broadcaster
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.runtime.status import read_all
from weir.schemas.topics import BROADCAST


async def is_(config: Config, state: str) -> None:
    await until_async(lambda: [s.state for s in read_all(config) if s.name.startswith("broadcaster")] == [state])


def address(config: Config, query: str = "") -> str:
    return f"http://127.0.0.1:{config.broadcast.broadcaster_port}/websocket?{query}"


class Following:
    """A subscriber that resumes wherever it is cut off; the messages it got, and how each connection ended."""

    def __init__(self, config: Config, session: aiohttp.ClientSession) -> None:
        self._config, self._session = config, session
        self._position: str | None = None
        self.got: list[str] = []
        self.ends: list[tuple[int | None, str]] = []
        self.connected = 0

    async def run(self, count: int) -> None:
        while len(self.got) < count:
            query = "envelope=1" if self._position is None else f"envelope=1&after={self._position}"
            try:
                async with self._session.ws_connect(address(self._config, query), autoclose=False) as socket:
                    await self._follow(Client(socket), count)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.02)

    async def _follow(self, client: Client, count: int) -> None:
        position, recovered = await client.hello()
        assert recovered
        self._position = self._position or position
        self.connected += 1
        while len(self.got) < count:
            message = await client.socket.receive(timeout=PATIENCE_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                self.ends.append((client.socket.close_code, str(message.extra)))
                return
            envelope = message.json()
            self._position = envelope["position"]
            self.got.append(envelope["data"])


@pytest.mark.long
def test_while_kafka_is_away_subscribers_stay_and_nothing_is_lost_or_twice(
    kafka_of_its_own: tuple[Config, OwnServer],
) -> None:
    config, server = kafka_of_its_own
    config = config.replace(WEIR_BROADCAST_IDLE=60_000)  # this client answers pings only while it is asked
    clients.ensure_topics(config, (BROADCAST,))
    Sender(config).send("before")

    async def main() -> None:
        async with beside(broadcaster.run(config)), aiohttp.ClientSession() as session:
            await is_(config, "running")
            client = Client(await session.ws_connect(address(config)))
            first = [f"first{n}" for n in range(500)]
            Sender(config).send(*first)
            assert await client.texts(500) == first
            server.kill()
            await is_(config, "waiting")
            older = Client(await session.ws_connect(address(config, "after=0-0.1-0.2-0.3-0")))
            server.start()
            second = [f"second{n}" for n in range(500)]
            Sender(config).send(*second)
            assert await client.texts(500) == second
            assert (await older.hello())[1] is True
            assert await older.texts(1001) == ["before", *first, *second]
            await is_(config, "running")

    run(main())


@pytest.mark.long
def test_it_waits_for_a_kafka_that_is_not_there_yet(kafka_of_its_own: tuple[Config, OwnServer]) -> None:
    config, server = kafka_of_its_own
    server.stop()

    async def main() -> None:
        async with beside(broadcaster.run(config)), aiohttp.ClientSession() as session:
            await is_(config, "waiting")
            server.start()
            await is_(config, "running")
            client = Client(await session.ws_connect(address(config)))
            Sender(config).send("hello")
            assert await client.texts(1) == ["hello"]

    run(main())


async def through(config: Config, one: Running, environ: dict[str, str], number: signal.Signals) -> list[Following]:
    """Twenty that follow, while messages come and the broadcaster is ended and another one started."""
    count = 3_000
    sender = Sender(config)
    messages = [f"{n:06}" for n in range(count)]
    async with aiohttp.ClientSession() as session:
        await is_(config, "running")
        following = [Following(config, session) for _ in range(20)]
        tasks = [asyncio.create_task(f.run(count)) for f in following]
        await until_async(lambda: all(f.connected for f in following))
        for at in range(0, count, 100):
            await asyncio.to_thread(sender.send, *messages[at : at + 100])
            if at == 1_000:
                await until_async(lambda: all(f.got for f in following))
                one.process.send_signal(number)
                assert await asyncio.to_thread(one.process.wait, PATIENCE_S) == (
                    0 if number == signal.SIGTERM else -number
                )
        with started(environ, "run", "broadcaster"):
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    for f in following:
        assert f.got == messages
    return following


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_resumes_at_another_broadcaster_has_everything_once(
    config: Config, environ: dict[str, str], number: signal.Signals
) -> None:
    clients.ensure_topics(config, (BROADCAST,))
    with started(environ, "run", "broadcaster") as one:
        following = asyncio.run(asyncio.wait_for(through(config, one, environ, number), 150))
    if number == signal.SIGTERM:
        for f in following:
            code, reason = f.ends[0]
            assert code == 1001
            assert reason.startswith("position=0-")
