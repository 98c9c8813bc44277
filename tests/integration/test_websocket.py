"""The WebSocket server on real sockets, with a client of another make (aiohttp) and with one that behaves badly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import aiohttp
import pytest

from infra.errors import PortTakenError
from infra.websocket import Handler, Limits, Refusal, Request, Route, WebSocketServer
from infra.websocket.limits import ConnectionCounts
from websocket_echo import Echo

Make = Callable[[Request], Handler | Refusal]


@asynccontextmanager
async def serving(
    limits: Limits | None = None, make: Make = lambda r: Echo(), quiet: bool = False
) -> AsyncIterator[WebSocketServer]:
    server = WebSocketServer([Route("/websocket", make, quiet)], limits or Limits())
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def url(server: WebSocketServer, rest: str = "/websocket") -> str:
    return f"http://127.0.0.1:{server.port}{rest}"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_what_is_sent_comes_back(size: int) -> None:
    async def main() -> None:
        async with (
            serving() as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(url(server), max_msg_size=0) as socket,
        ):
            await socket.send_bytes(b"b" * size)
            assert await socket.receive_bytes() == b"b" * size
            await socket.send_str("é" * (size // 2))
            assert await socket.receive_str() == "é" * (size // 2)

    run(main())


HANDSHAKE = (
    b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def masked(opcode: int, data: bytes = b"", final: bool = True) -> bytes:
    """A short frame as clients send it; a mask of zeros changes nothing."""
    return bytes(((0x80 if final else 0) | opcode, 0x80 | len(data), 0, 0, 0, 0)) + data


class Raw:
    """A client that sends what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: WebSocketServer, data: bytes = HANDSHAKE, of: str = "127.0.0.1") -> Raw:
        raw = cls(*await asyncio.open_connection("127.0.0.1", server.port, local_addr=(of, 0)))
        raw.writer.write(data)
        if data == HANDSHAKE:
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return raw

    async def frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        assert size < 126
        return first & 0x0F, await self.reader.readexactly(size)

    async def end(self) -> tuple[int, str]:
        """The close frame that comes, maybe behind pongs, and the end of the connection."""
        while (frame := await self.frame())[0] == 10:
            pass
        opcode, payload = frame
        assert opcode == 8
        self.writer.close()
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_handshake_may_come_in_pieces_with_messages_right_behind_it() -> None:
    async def main() -> None:
        async with serving() as server:
            raw = await Raw.connect(server, HANDSHAKE[:50])
            await asyncio.sleep(0)
            raw.writer.write(HANDSHAKE[50:] + masked(1, b"early") + masked(1, b"fr", final=False) + masked(9, b"p"))
            await raw.reader.readuntil(b"\r\n\r\n")
            assert await raw.frame() == (1, b"early")
            assert await raw.frame() == (10, b"p")
            raw.writer.write(masked(0, b"agments"))
            assert await raw.frame() == (1, b"fragments")
            raw.writer.write(masked(8, b"\x03\xe8bye"))
            assert await raw.frame() == (8, b"\x03\xe8")
            assert await raw.reader.read() == b""
            raw.writer.close()

    run(main())


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
            await until(lambda: len(server) == 0)

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
            await until(lambda: answers)
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
                await until(lambda: len(answers) > 100)
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
            await until(lambda: len(server) == 1)
            fourth = await Raw.connect(server)
            for raw in (second, third, fourth):
                raw.writer.close()

    run(main())


def test_servers_of_one_process_share_the_places() -> None:
    async def main() -> None:
        limits = Limits(connections=3)
        counts = ConnectionCounts(limits)
        servers = [WebSocketServer([Route("/websocket", lambda r: Echo())], limits, counts) for _ in range(2)]
        for server in servers:
            await server.start("127.0.0.1", 0)
        there = [await Raw.connect(servers[at]) for at in (0, 1, 1)]
        for server in servers:
            refused = await Raw.connect(server, HANDSHAKE + b" ")
            assert (await refused.reader.read()).startswith(b"HTTP/1.1 503 ")
            refused.writer.close()
        there[0].writer.close()
        await until(lambda: counts.total == 2)
        there[0] = await Raw.connect(servers[1])
        for raw in there:
            raw.writer.close()
        for server in servers:
            await server.stop()

    run(main())


def test_compression_is_not_agreed_to() -> None:
    async def main() -> None:
        async with serving() as server:
            offer = HANDSHAKE.replace(b"Host: x", b"Host: x\r\nSec-WebSocket-Extensions: permessage-deflate")
            raw = await Raw.connect(server, offer)
            answer = await raw.reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"extensions" not in answer.lower()
            raw.writer.write(masked(0x40 | 1, b"compressed"))
            assert (await raw.end())[0] == 1002

    run(main())


def test_a_message_that_is_too_long_closes_with_1009() -> None:
    async def main() -> None:
        async with serving(Limits(message=100)) as server:
            raw = await Raw.connect(server)
            raw.writer.write(masked(1, b"x" * 60, final=False) + masked(0, b"x" * 41))
            assert (await raw.end())[0] == 1009
            await until(lambda: len(server) == 0)

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
            assert await raw.end() == (1008, "too many frames: 10 a second may be sent here")
            await until(lambda: len(server) == 1)
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
            await until(lambda: len(server) == 0)
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


def test_who_is_silent_is_pinged_and_then_dropped() -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(Limits(idle=0.4), lambda r: Echo(log)) as server:
            silent, living = await Raw.connect(server), await Raw.connect(server)
            assert await living.frame() == (9, b"")
            living.writer.write(masked(10))
            assert await silent.frame() == (9, b"")
            assert await silent.end() == (1008, "nothing heard for 1 s")
            assert await living.frame() == (9, b"")
            living.writer.write(masked(1, b"here"))
            assert await living.frame() == (1, b"here")
            living.writer.close()

    run(main())
    assert ("closed", 1008, "nothing heard for 1 s") in log


def test_a_peer_that_does_not_read_is_closed_and_the_queue_is_bounded() -> None:
    log: list[tuple[object, ...]] = []
    echo = Echo(log)

    async def main() -> None:
        async with serving(Limits(queue=300_000, idle=60, closing=0.2), lambda r: echo) as server:
            raw = await Raw.connect(server)
            await until(lambda: echo.connection is not None)
            assert echo.connection is not None
            most = 0
            for _ in range(1_000):
                if not echo.connection.send(b"x" * 100_000, binary=True):
                    break
                most = max(most, echo.connection.waiting)
                await asyncio.sleep(0)
            assert most <= 300_000
            assert not echo.connection.send(b"more")
            await until(lambda: len(server) == 0)
            raw.writer.close()

    run(main())
    assert log[-1][:2] == ("closed", 1008)
    assert str(log[-1][2]).startswith("too slow: ")


def test_what_waits_for_a_slow_peer_arrives_whole_and_in_order() -> None:
    echo = Echo()

    async def main() -> None:
        async with (
            serving(Limits(queue=64 << 20, idle=60), lambda r: echo) as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(url(server), max_msg_size=0) as socket,
        ):
            await until(lambda: echo.connection is not None)
            assert echo.connection is not None
            drained = asyncio.Event()
            sent = [bytes([n % 256]) * (n * 997 % 70_000) for n in range(600)]
            assert all(echo.connection.send(data, binary=True) for data in sent)
            assert echo.connection.waiting > 0
            echo.connection.when_drained(drained.set)
            assert [await socket.receive_bytes() for _ in sent] == sent
            await asyncio.wait_for(drained.wait(), 30)
            assert echo.connection.waiting == 0

    run(main())


def test_a_sender_that_is_paused_waits_and_loses_nothing() -> None:
    log: list[tuple[object, ...]] = []
    echoes = [Echo(log), Echo()]
    made = iter(echoes)

    async def main() -> None:
        async with serving(Limits(idle=0.2), lambda r: next(made)) as server:
            raw = await Raw.connect(server)
            await until(lambda: ("opened",) in log)
            paused = echoes[0].connection
            assert paused is not None
            paused.pause()
            raw.writer.write(masked(1, b"later"))
            silent = await Raw.connect(server)
            assert await silent.frame() == (9, b"")
            await silent.end()
            assert paused.is_open  # not dropped as the other one: its silence is our doing
            assert log == [("opened",)]
            paused.resume()
            while (frame := await raw.frame()) == (9, b""):
                pass
            assert frame == (1, b"later")
            raw.writer.close()

    run(main())


def test_a_sender_that_goes_while_it_is_paused_does_not_stay_counted() -> None:
    echo = Echo()

    async def main() -> None:
        async with serving(Limits(idle=0.1), lambda r: echo) as server:
            raw = await Raw.connect(server)
            await until(lambda: echo.connection is not None)
            assert echo.connection is not None
            echo.connection.pause()
            raw.writer.write(masked(1, b"unread"))
            raw.writer.close()
            await until(lambda: len(server) == 0)

    run(main())


def test_when_the_server_stops_everyone_is_told_and_nobody_waited_for_long() -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(Limits(closing=0.3), lambda r: Echo(log)) as server, aiohttp.ClientSession() as session:
            polite = await session.ws_connect(url(server))
            rude = await Raw.connect(server)
            hanging = await Raw.connect(server, b"GET")
            await until(lambda: len(log) == 2)
            stopping = asyncio.create_task(server.stop(1001, lambda c: f"from {c.path}", timeout=5))
            message = await polite.receive()
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1001, "from /websocket")
            await stopping
            assert len(server) == 0
            for raw in (rude, hanging):
                raw.writer.close()
            with pytest.raises(aiohttp.ClientError):
                await session.ws_connect(url(server))

    run(main())
    assert log.count(("closed", 1001, "from /websocket")) == 2


def test_a_handler_that_fails_costs_its_own_connection_alone() -> None:
    class Failing(Echo):
        def message(self, data: bytes, binary: bool) -> None:
            raise RuntimeError("no")

    def make(request: Request) -> Handler | Refusal:
        if request.query.get("refuse"):
            return Refusal(401, "who?", {"WWW-Authenticate": 'Basic realm="weir"'})
        return Failing() if request.query.get("fail") else Echo()

    async def main() -> None:
        async with serving(make=make) as server, aiohttp.ClientSession() as session:
            good, bad = (
                await session.ws_connect(url(server)),
                await session.ws_connect(url(server, "/websocket?fail=1")),
            )
            await bad.send_str("x")
            assert (await bad.receive()).data == 1011
            await good.send_str("x")
            assert await good.receive_str() == "x"
            await good.close()
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await session.ws_connect(url(server, "/websocket?refuse=1"))
            assert raised.value.status == 401

    run(main())


def test_a_port_that_is_taken_is_said() -> None:
    async def main() -> None:
        async with serving() as server:
            with pytest.raises(PortTakenError, match=str(server.port)):
                await WebSocketServer([], Limits()).start("127.0.0.1", server.port)

    run(main())
