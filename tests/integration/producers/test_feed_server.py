"""The feed to try weir with: what it plays, and what it makes of what comes back, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest

from support.wait import PATIENCE_S, until_async
from weir.infra.errors import PortTakenError
from weir.infra.ports import free_ports
from weir.infra.runtime.clock import wall_clock
from weir.producers.simulators.feed.check import FeedCheck
from weir.producers.simulators.feed.recorded import Timed
from weir.producers.simulators.feed.server import FeedServer
from weir.schemas.times import to_rfc3339

RELATIONS = b'[{"parent":"A","child":"a"},{"parent":"B","child":"b"}]'
CALL = b'{"source":"a","destination":"b"}'


@contextlib.asynccontextmanager
async def serving(messages: Iterable[Timed], speed: float = 1.0) -> AsyncIterator[tuple[FeedServer, FeedCheck, str]]:
    """A server that plays while the block runs."""
    check = FeedCheck(wall_clock)
    server = FeedServer(messages, check, speed)
    address = await server.start("127.0.0.1", 0)
    playing = asyncio.create_task(server.play())
    try:
        yield server, check, address
    finally:
        playing.cancel()
        await server.stop()


@contextlib.asynccontextmanager
async def client(address: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        yield socket


def summary(*links: tuple[str, str, int]) -> str:
    start = wall_clock() // 60_000 * 60_000
    return json.dumps(
        {
            "window": {"start": to_rfc3339(start), "end": to_rfc3339(start + 60_000)},
            "links": [{"source": s, "destination": d, "count": n} for s, d, n in links],
        }
    )


def test_every_message_is_played_in_order_at_its_time() -> None:
    messages = [Timed(n / 10, b"%d" % n) for n in range(10)]

    async def run() -> None:
        async with serving(messages, speed=10) as (server, _, address), client(address) as socket:
            began = time.monotonic()
            assert [int((await socket.receive()).data) for _ in messages] == list(range(10))
            assert time.monotonic() - began >= 0.08  # never early
            await until_async(lambda: server.ended)
            assert server.at == 0.9

    asyncio.run(run())


def test_the_end_is_waited_for_until_all_came_back() -> None:
    async def run() -> None:
        async with serving([Timed(0, RELATIONS), Timed(0, CALL), Timed(0, CALL)]) as (server, check, address):
            waiting = asyncio.create_task(server.all_came_back(timeout=PATIENCE_S))
            async with client(address) as socket:
                await until_async(lambda: server.ended)
                assert not check.compare().equal
                await socket.send_str("no summary")
                await socket.send_str(summary(("A", "B", 1)))
                await socket.send_str(summary(("A", "B", 2)))
                assert await waiting

    asyncio.run(run())


def test_what_does_not_come_back_is_not_waited_for_beyond_the_timeout() -> None:
    async def run() -> None:
        async with serving([Timed(0, RELATIONS), Timed(0, CALL)]) as (server, _, address), client(address):
            await until_async(lambda: server.ended)
            assert not await server.all_came_back(timeout=0.05)

    asyncio.run(run())


def test_a_second_client_at_the_same_time_is_refused() -> None:
    async def run() -> None:
        async with (
            serving([Timed(0, RELATIONS)]) as (_, _, address),
            client(address),
            aiohttp.ClientSession() as session,
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(address)
            assert refused.value.status == 409

    asyncio.run(run())


def test_what_is_no_websocket_is_refused_and_leaves_the_place_free() -> None:
    async def run() -> None:
        async with serving([Timed(0, RELATIONS)]) as (_, _, address), aiohttp.ClientSession() as session:
            async with session.get(address.replace("ws://", "http://")) as response:
                assert response.status == 400
            async with client(address) as socket:
                assert (await socket.receive()).data == RELATIONS.decode()

    asyncio.run(run())


def test_the_next_client_goes_on_where_the_last_one_left_and_hears_relations_in_doubt_again() -> None:
    moved = b'[{"parent":"C","child":"a"}]'

    async def run() -> None:
        messages = [Timed(0, RELATIONS), Timed(0.0, CALL), Timed(0.0, moved), Timed(1.0, CALL)]
        async with serving(messages) as (server, check, address):
            async with client(address) as first:
                assert [(await first.receive()).data for _ in range(2)] == [RELATIONS.decode(), CALL.decode()]
                await until_async(lambda: check.messages == 3)
            await until_async(lambda: not server.connected)
            async with client(address) as second:
                received = [(await second.receive()).data.encode() for _ in range(3)]
                assert received == [RELATIONS, moved, CALL]
                await second.send_str(summary(("A", "B", 1), ("C", "B", 1)))
                assert await server.all_came_back(timeout=PATIENCE_S)

    asyncio.run(run())


def test_feed_time_stands_still_while_there_is_no_client() -> None:
    async def run() -> None:
        async with serving([Timed(0, b"0"), Timed(0.3, b"1"), Timed(0.6, b"2")]) as (server, _, address):
            async with client(address) as first:
                await first.receive()
            await until_async(lambda: not server.connected)
            gone = time.monotonic()
            await until_async(lambda: time.monotonic() - gone > 1.0)
            async with client(address) as second:
                assert (await second.receive()).data == "1"
                between = time.monotonic()
                assert (await second.receive()).data == "2"
                assert time.monotonic() - between >= 0.25  # not sent at once to make up for the time without a client

    asyncio.run(run())


def test_what_the_client_has_read_is_not_in_doubt() -> None:
    async def run() -> None:
        async with serving([Timed(0, RELATIONS), Timed(0, CALL)]) as (server, check, address):
            async with client(address) as socket:
                reading = asyncio.create_task(read_all(socket))
                await until_async(lambda: server.ended and not check.in_flight)
                reading.cancel()
            await until_async(lambda: not server.connected)
            [pair] = check.compare().pairs
            assert (pair.sent, pair.in_doubt) == (1, 0)

    asyncio.run(run())


async def read_all(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    [port] = free_ports(1)

    async def run() -> None:
        first, second = (FeedServer([], FeedCheck(wall_clock)) for _ in range(2))
        await first.start("127.0.0.1", port)
        with pytest.raises(PortTakenError, match=f"port {port}"):
            await second.start("127.0.0.1", port)
        await first.stop()

    asyncio.run(run())
