"""The WebSocket server on real sockets, with a client of another make (aiohttp) and with a raw one."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from support.wait import until_async
from support.websocket.websocket_echo import Echo
from support.websocket.websocket_server import HANDSHAKE, Raw, masked, run, serving, url
from weir.infra.errors import PortTakenError
from weir.infra.websocket import Handler, HandshakeRequest, Limits, Refusal, WebSocketServer


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


def test_who_is_silent_is_pinged_and_then_dropped() -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(Limits(idle=1.0), lambda r: Echo(log)) as server:
            silent, living = await Raw.connect(server), await Raw.connect(server)
            assert await living.frame() == (9, b"")
            living.writer.write(masked(10))
            assert await silent.frame() == (9, b"")
            assert await silent.end() == (1008, "nothing heard for 2 s")
            assert await living.frame() == (9, b"")
            living.writer.write(masked(1, b"here"))
            assert await living.frame() == (1, b"here")
            living.writer.close()

    run(main())
    assert ("closed", 1008, "nothing heard for 2 s") in log


def test_a_peer_that_does_not_read_is_closed_and_the_queue_is_bounded() -> None:
    log: list[tuple[object, ...]] = []
    echo = Echo(log)

    async def main() -> None:
        async with serving(Limits(queue=300_000, idle=60, closing=0.2), lambda r: echo) as server:
            raw = await Raw.connect(server)
            await until_async(lambda: echo.connection is not None)
            assert echo.connection is not None
            most = 0
            for _ in range(1_000):
                if not echo.connection.send(b"x" * 100_000, binary=True):
                    break
                most = max(most, echo.connection.waiting)
                await asyncio.sleep(0)
            assert most <= 300_000
            assert not echo.connection.send(b"more")
            await until_async(lambda: len(server) == 0)
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
            await until_async(lambda: echo.connection is not None)
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
            await until_async(lambda: ("opened",) in log)
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
            await until_async(lambda: echo.connection is not None)
            assert echo.connection is not None
            echo.connection.pause()
            raw.writer.write(masked(1, b"unread"))
            raw.writer.close()
            await until_async(lambda: len(server) == 0)

    run(main())


def test_when_the_server_stops_everyone_is_told_and_nobody_waited_for_long() -> None:
    log: list[tuple[object, ...]] = []

    async def main() -> None:
        async with serving(Limits(closing=0.3), lambda r: Echo(log)) as server, aiohttp.ClientSession() as session:
            polite = await session.ws_connect(url(server))
            rude = await Raw.connect(server)
            hanging = await Raw.connect(server, b"GET")
            await until_async(lambda: len(log) == 2)
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

    def make(request: HandshakeRequest) -> Handler | Refusal:
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
