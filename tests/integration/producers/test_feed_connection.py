"""The connection to a feed that goes away, refuses, sends garbage, is silent, is slow: over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import WSCloseCode, web

from support.servers.feed_servers import (
    accept_and_go_deaf,
    connected,
    count_to_the_end,
    feed_status,
    raw_server,
    say_nothing,
    scripted,
    status,
)
from support.wait import until_async
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.errors import ConfigError, FeedBrokenError, FeedClosedError
from weir.producers.feed.connection import MAX_MESSAGE, FeedConnection


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """No server is needed here, but for the feed."""
    return configuration.load({"WEIR_HOME": str(tmp_path)})


def no_jitter() -> float:
    return 1.0


def test_messages_come_as_their_bytes_with_their_numbers(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str("one")
        await feed.send_bytes(b"two \xff")
        await feed.send_frame(b"three \xff", 1)  # a text frame that is not UTF-8

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url) as connection:
            assert await connection.receive() == (b"one", 0, 1)
            assert await connection.receive() == (b"two \xff", 1, 1)
            assert await connection.receive() == (b"three \xff", 2, 1)

    asyncio.run(run())


def test_a_feed_that_goes_away_is_connected_to_again(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str(f"hello {number}")
        if number == 0:
            await feed.close(code=WSCloseCode.GOING_AWAY, message=b"maintenance")

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url) as connection:
            assert await connection.receive() == (b"hello 0", 0, 1)
            assert await connection.receive() == (b"hello 1", 0, 2)
            assert status(config).state == "running"
            await feed.stop()
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: status(config).state == "reconnecting")
            await feed.start()
            assert (await receiving).connection == 3

    asyncio.run(run())


def test_a_feed_that_is_not_there_is_tried_with_growing_delays_and_the_status_says_so(config: Config) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"

    async def run() -> None:
        async with connected(config, url, jitter=no_jitter):
            seen: dict[object, object] = {}
            while len(seen) < 3:
                detail = status(config).detail
                if "retry_in_s" in detail:
                    assert status(config).state == "reconnecting"
                    assert "Connect call failed" in str(detail["error"]) or "refused" in str(detail["error"])
                    seen[detail["attempt"]] = detail["retry_in_s"]
                await asyncio.sleep(0.01)
            assert (
                seen == {1: 1.0, 2: 2.0, 3: 4.0} or seen == {1: 0.5, 2: 1.0, 3: 2.0} or seen == {1: 0.2, 2: 0.5, 3: 1.0}
            )

    asyncio.run(run())


def respond(status_code: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status_code, text="no feed here")

    return handler


@pytest.mark.parametrize("code", [200, 401, 404, 500])
def test_a_server_that_refuses_is_said_to(config: Config, code: int) -> None:
    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", respond(code))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with connected(config, f"ws://127.0.0.1:{runner.addresses[0][1]}/"):
            await until_async(
                lambda: status(config).detail.get("error") == f"the feed refused the connection: HTTP {code}"
            )
        await runner.cleanup()

    asyncio.run(run())


def test_a_server_that_accepts_and_closes_at_once_is_not_asked_ever_faster(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.close()

    async def run() -> None:
        async with (
            scripted(script) as feed,
            connected(config, feed.url, jitter=no_jitter) as connection,
        ):
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: status(config).detail.get("attempt") == 3)
            assert feed.connections == 3
            assert status(config).detail["error"] == "the feed closed the connection (code 1000)"
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_the_delays_start_anew_after_a_connection_that_lasted(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.close()

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url, healthy_after=0.0) as connection:
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: feed.connections == 4)
            assert status(config).detail.get("attempt", 1) == 1
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n" * 10)
    await writer.drain()
    writer.close()


def test_a_server_that_speaks_no_http_is_survived(config: Config) -> None:
    async def run() -> None:
        async with raw_server(garbage) as url, connected(config, url):
            await until_async(lambda: status(config).detail.get("attempt") == 2)
            assert "cannot connect" in str(status(config).detail["error"])

    asyncio.run(run())


def test_malformed_frames_end_the_connection_and_the_next_one_is_read(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str(f"hello {number}")
        if number == 0:
            transport = feed._req.transport  # type: ignore[union-attr]
            transport.write(b"\xff\xff\xff\xff garbage")  # type: ignore[union-attr]

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url) as connection:
            assert (await connection.receive()).data == b"hello 0"
            assert (await connection.receive()).data == b"hello 1"

    asyncio.run(run())


def test_a_message_of_the_largest_size_is_read_and_a_larger_one_ends_the_connection(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str("x" * (MAX_MESSAGE + number))

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url) as connection:
            assert len((await connection.receive()).data) == MAX_MESSAGE
            await feed.stop()
            await feed.start()
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: "exceeds limit" in str(status(config).detail.get("error")))
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_a_silent_feed_stays_connected(config: Config) -> None:
    async def run() -> None:
        async with scripted(say_nothing) as feed, connected(config, feed.url, heartbeat=1.0) as connection:
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: connection.silent_for > 2.5)
            assert feed.connections == 1
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_a_dead_peer_is_noticed(config: Config) -> None:
    async def run() -> None:
        async with raw_server(accept_and_go_deaf) as url, connected(config, url, heartbeat=0.1) as connection:
            receiving = asyncio.create_task(connection.receive())
            await until_async(lambda: "no answer to a ping" in str(status(config).detail.get("error")))
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_a_feed_that_nobody_reads_is_slowed_down_and_not_taken_for_dead(config: Config) -> None:
    sent = 0

    async def script(feed: web.WebSocketResponse, number: int) -> None:
        nonlocal sent
        for n in range(3_000):
            await feed.send_str(f"{n}" + " " * 10_000)
            sent = n + 1

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url, heartbeat=1.0) as connection:
            await connection.receive()
            await until_async(lambda: connection.silent_for > 2.5)
            assert sent < 3_000
            assert [int((await connection.receive()).data) for _ in range(2_999)] == list(range(1, 3_000))
            assert feed.connections == 1

    asyncio.run(run())


def test_what_is_sent_arrives_as_text(config: Config) -> None:
    async def run() -> None:
        async with scripted(say_nothing) as feed, connected(config, feed.url) as connection:
            receiving = asyncio.create_task(connection.receive())
            await connection.send(b'{"window": "w"}')
            assert feed.received == ['{"window": "w"}']  # send returns once the feed has read it
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_sending_waits_for_a_connection(config: Config) -> None:
    async def run() -> None:
        async with scripted(say_nothing) as feed:
            await feed.stop()
            async with connected(config, feed.url) as connection:
                receiving = asyncio.create_task(connection.receive())
                sending = asyncio.create_task(connection.send(b"late"))
                await until_async(lambda: status(config).detail.get("attempt") == 1)
                await feed.start()
                await sending
                assert feed.received == ["late"]
                receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_a_message_that_a_broken_connection_swallowed_is_an_error_that_can_be_retried(config: Config) -> None:
    async def go_away_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_and_go_deaf(reader, writer)
        await reader.readexactly(10)
        writer.transport.abort()

    async def run() -> None:
        async with raw_server(go_away_unread) as url, connected(config, url) as connection:
            receiving = asyncio.create_task(connection.receive())
            with pytest.raises(FeedBrokenError):
                await connection.send(b"a summary that nobody will have read")
            receiving.cancel()
            await asyncio.wait([receiving])

    asyncio.run(run())


def test_a_feed_that_answers_no_pings_is_taken_at_its_word(config: Config) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_and_go_deaf(reader, writer)
        while not writer.is_closing():
            writer.write(b"\x81\x02hi")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with raw_server(chatter) as url, connected(config, url, heartbeat=0.3) as connection:
            reading = asyncio.create_task(count_to_the_end(connection))
            await connection.send(b"summary")
            reading.cancel()

    asyncio.run(run())


def test_a_close_in_order_loses_nothing_that_the_feed_had_sent(config: Config) -> None:
    sent = 0

    async def script(feed: web.WebSocketResponse, number: int) -> None:
        nonlocal sent
        while not feed.closed:
            await feed.send_str(f"{sent}")
            sent += 1
            await asyncio.sleep(0)

    async def run() -> None:
        async with scripted(script) as feed, connected(config, feed.url) as connection:
            await connection.receive()
            closing = asyncio.create_task(connection.close())
            assert 1 + await count_to_the_end(connection) == sent
            await closing
            with pytest.raises(FeedClosedError):
                await connection.send(b"too late")

    asyncio.run(run())


@pytest.mark.parametrize("url", ["http://localhost/", "localhost:8765", "ws://", "", "ws://host:port/"])
def test_an_address_that_is_no_feeds_is_refused_at_the_start(config: Config, url: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid feed address"):
        asyncio.run(make(config, url))


async def make(config: Config, url: str) -> FeedConnection:
    return FeedConnection(url, feed_status(config))


def test_the_name_of_a_feed_hides_its_secrets(config: Config) -> None:
    connection = asyncio.run(make(config, "wss://user:secret@example.org/feed?token=secret"))
    assert connection.name == "wss://example.org/feed"
