"""The WebSocket server and those that mean no good, or come all at once: bounded, answered, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from support.wait import until_async
from support.websocket.websocket_echo import Echo
from support.websocket.websocket_server import HANDSHAKE, Raw, masked, run, serving, url
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.websocket import Limits, Route, WebSocketServer


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"/websocket", b"/other"), 404),
        ((b"Upgrade: websocket\r\n", b""), 426),
        ((b"Version: 13", b"Version: 7"), 426),
        ((b"GET", b"POST"), 405),
        ((b"HTTP/1.1", b"HTTP/3"), 400),
        ((b"HTTP/1.1", b"HTTP/1.0"), 505),
        ((b"Host: x", b"Host: x\r\nHost: x"), 400),
        ((b"/websocket", "/websocket?channel=café".encode()), 400),
        ((b"Host: x", b"Host: x\r\nOrigin: https://b.example"), 403),
        ((b"Host: x", b"Host: " + b"x" * 17_000), 431),
    ],
)
def test_what_is_not_wanted_gets_an_http_answer(change: tuple[bytes, bytes], status: int) -> None:
    async def main() -> None:
        async with serving(Limits(origins=frozenset({"https://a.example"}))) as server:
            raw = await Raw.connect(server, HANDSHAKE.replace(*change))
            assert (await raw.reader.readline()).split()[1] == b"%d" % status
            raw.writer.close()
            raw = await Raw.connect(server, HANDSHAKE.replace(b"Host: x", b"Host: x\r\nOrigin: https://a.example"))
            assert (await raw.reader.readline()).split()[1] == b"101"
            raw.writer.close()

    run(main())


def test_a_handshake_that_takes_too_long_is_answered_and_cut_off() -> None:
    async def main() -> None:
        async with serving(Limits(handshake=0.2)) as server:
            slow = [await Raw.connect(server, HANDSHAKE[:-1]) for _ in range(20)]
            for raw in slow:
                assert (await raw.reader.read()).startswith(b"HTTP/1.1 408 ")
                raw.writer.close()
            raw = await Raw.connect(server)
            raw.writer.close()

    run(main())


def test_a_burst_waits_for_its_turn_and_everyone_gets_in() -> None:
    async def main() -> None:
        async with serving(Limits(handshakes=10)) as server:
            hanging = [await Raw.connect(server, b"G") for _ in range(9)]
            all_of_them = await asyncio.gather(*(Raw.connect(server) for _ in range(300)))
            assert len(server) == 300
            for raw in (*hanging, *all_of_them):
                raw.writer.close()
            await until_async(lambda: len(server) == 0)

    run(main())


def test_a_request_that_a_slow_server_has_not_read_yet_is_answered_and_not_cut_off() -> None:
    async def main() -> None:
        async with serving(Limits(handshakes=2, crowded=0.0)) as server, contextlib.AsyncExitStack() as sockets:
            clients = []
            for _ in range(20):  # blocking calls: the server, in this same loop, does nothing meanwhile
                client = sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                client.sendall(HANDSHAKE)
                client.setblocking(False)
                clients.append(client)
            loop = asyncio.get_running_loop()
            answers = await asyncio.gather(*(loop.sock_recv(client, 4096) for client in clients))
            assert {answer.split()[1] for answer in answers} == {b"101"}

    run(main())


@asynccontextmanager
async def half_open(server: WebSocketServer, of: str, count: int) -> AsyncIterator[list[bytes]]:
    """So many connections that never send a whole request, each replaced as soon as it is ended; the answers so far."""
    answers: list[bytes] = []

    async def hang() -> None:
        loop = asyncio.get_running_loop()
        while True:
            with socket.socket() as connected:  # which is closed however this ends
                connected.setblocking(False)
                connected.bind((of, 0))
                await loop.sock_connect(connected, ("127.0.0.1", server.port))
                await loop.sock_sendall(connected, HANDSHAKE[:-2])
                answers.append(await loop.sock_recv(connected, 4096))

    hanging = [asyncio.create_task(hang()) for _ in range(count)]
    try:
        yield answers
    finally:
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.parametrize("of", ["127.0.0.1", "127.0.0.2"])
def test_however_many_handshakes_are_half_open_others_get_in(of: str) -> None:
    async def main() -> None:
        async with (
            serving(Limits(handshakes=50, handshake=3_600)) as server,
            half_open(server, "127.0.0.2", 80) as answers,
        ):
            await until_async(lambda: answers)
            real = await asyncio.gather(*(Raw.connect(server, of=of) for _ in range(5)))
            assert len(server) == 5
            assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
            for raw in real:
                raw.writer.close()

    run(main())


def test_who_is_slow_is_let_alone_where_another_address_takes_the_places() -> None:
    async def main() -> None:
        async with serving(Limits(handshakes=20, crowded=0.05, handshake=3_600)) as server:
            slow = await Raw.connect(server, HANDSHAKE[:50], "127.0.0.3")
            async with half_open(server, "127.0.0.2", 60) as answers:
                await until_async(lambda: len(answers) > 100)
                slow.writer.write(HANDSHAKE[50:])
                assert (await slow.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            slow.writer.close()

    run(main())


def test_an_address_has_no_more_half_open_than_it_may_have_connections() -> None:
    async def main() -> None:
        async with serving(Limits(per_address=3, handshake=3_600)) as server:
            hanging = [await Raw.connect(server, b"G") for _ in range(5)]
            for raw in hanging[:2]:
                assert (await raw.reader.read()).startswith(b"HTTP/1.1 408 ")
            for raw in (*hanging, await Raw.connect(server)):
                raw.writer.close()

    run(main())


def test_descriptors_that_are_used_up_do_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gets in once there are some again."""
    failing = [OSError(errno.EMFILE, "Too many open files")] * 3
    accept = socket.socket.accept

    def scarce(listening: socket.socket) -> tuple[socket.socket, object]:
        if failing:
            raise failing.pop()
        return accept(listening)

    async def main() -> None:
        async with serving() as server:
            monkeypatch.setattr(socket.socket, "accept", scarce)
            raw = await Raw.connect(server)
            assert not failing
            raw.writer.close()

    run(main())


@pytest.mark.parametrize("limits", [Limits(connections=2), Limits(per_address=2)])
def test_there_are_only_so_many_connections(limits: Limits) -> None:
    async def main() -> None:
        async with serving(limits) as server:
            first, second = await Raw.connect(server), await Raw.connect(server)
            third = await Raw.connect(server, HANDSHAKE + b" ")
            answer = await third.reader.read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in answer
            first.writer.close()
            await until_async(lambda: len(server) == 1)
            fourth = await Raw.connect(server)
            for raw in (second, third, fourth):
                raw.writer.close()

    run(main())


def test_servers_of_one_process_share_the_places() -> None:
    async def main() -> None:
        limits = Limits(connections=3)
        counts = ConnectionLimits(limits.connections, limits.per_address)
        servers = [WebSocketServer([Route("/websocket", lambda r: Echo())], limits, counts) for _ in range(2)]
        for server in servers:
            await server.start("127.0.0.1", 0)
        there = [await Raw.connect(servers[at]) for at in (0, 1, 1)]
        for server in servers:
            refused = await Raw.connect(server, HANDSHAKE + b" ")
            assert (await refused.reader.read()).startswith(b"HTTP/1.1 503 ")
            refused.writer.close()
        there[0].writer.close()
        await until_async(lambda: counts.total == 2)
        there[0] = await Raw.connect(servers[1])
        for raw in there:
            raw.writer.close()
        for server in servers:
            await server.stop()

    run(main())


def test_a_message_that_is_too_long_closes_with_1009() -> None:
    async def main() -> None:
        async with serving(Limits(message=100)) as server:
            raw = await Raw.connect(server)
            raw.writer.write(masked(1, b"x" * 60, final=False) + masked(0, b"x" * 41))
            assert (await raw.end())[0] == 1009
            await until_async(lambda: len(server) == 0)

    run(main())


@pytest.mark.parametrize(
    "flood",
    [
        masked(9, b"?") * 2_000,
        masked(10) * 2_000,
        masked(1, b"hello") * 2_000,
        masked(2, b"x", final=False) + masked(0, b"x", final=False) * 2_000,
    ],
    ids=["pings", "pongs", "messages", "fragments"],
)
def test_who_has_nothing_to_say_and_floods_is_closed_and_the_others_stay(flood: bytes) -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(make=lambda r: Echo(log), quiet=True) as server:
            raw, other = await Raw.connect(server), await Raw.connect(server)
            raw.writer.write(flood)
            assert await raw.end() == (1008, "too many frames: at most 10 a second are allowed")
            await until_async(lambda: len(server) == 1)
            other.writer.write(masked(1, b"here"))
            assert await other.frame() == (1, b"here")
            other.writer.close()

    run(main())
    assert sum(event[0] == "message" for event in log) <= 101


def test_who_sends_byte_by_byte_floods_as_well() -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(Limits(quiet_burst=20), lambda r: Echo(log), quiet=True) as server:
            raw = await Raw.connect(server)
            raw.writer.write(masked(2, b"", final=False))
            at = 0
            while log[-1][0] != "closed":
                raw.writer.write(masked(0, b"x" * 100, final=False)[at % 106 :][:1])
                at += 1
                await asyncio.sleep(0.001)
            raw.writer.close()

    run(main())
    assert log[-1][1] == 1008


def test_a_flood_whose_sender_reads_nothing_ends_all_the_same() -> None:
    async def main() -> None:
        async with serving(Limits(quiet_burst=50_000, queue=1 << 30, closing=0.2), quiet=True) as server:
            raw = await Raw.connect(server)
            flooding = asyncio.create_task(_flood(raw))
            await until_async(lambda: len(server) == 0)
            flooding.cancel()
            raw.writer.close()

    run(main())


async def _flood(raw: Raw) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            raw.writer.write(masked(9, b"x" * 125) * 1_000)
            await raw.writer.drain()


def test_a_quiet_peer_may_say_a_little() -> None:
    async def main() -> None:
        async with serving(quiet=True) as server:
            raw = await Raw.connect(server)
            for _ in range(3):
                raw.writer.write(masked(9, b"?") * 20 + masked(1, b"hello") + masked(10))
                assert [await raw.frame() for _ in range(21)] == [(10, b"?")] * 20 + [(1, b"hello")]
            raw.writer.close()

    run(main())


def test_a_quiet_peers_long_message_is_refused_that_another_may_send() -> None:
    async def main() -> None:
        for quiet in (False, True):
            async with (
                serving(quiet=quiet) as server,
                aiohttp.ClientSession() as session,
                session.ws_connect(url(server)) as socket,
            ):
                await socket.send_bytes(b"x" * 4_096)
                assert await socket.receive_bytes() == b"x" * 4_096
                await socket.send_bytes(b"x" * 4_097)
                if quiet:
                    assert (await socket.receive()).data == 1009
                else:
                    assert await socket.receive_bytes() == b"x" * 4_097

    run(main())
