"""Clients of an HTTP server that do not finish, do not read, or come in numbers: the others are served."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time

import pytest

from support.http.http_site import LARGE, PATIENT, Client, get, limits, play, serving
from support.wait import until_async


@pytest.mark.parametrize("first", [b"", get()], ids=["first", "kept-alive"])
def test_half_a_request_is_answered_with_408_in_time_and_others_are_served_meanwhile(first: bytes) -> None:
    async def main() -> None:
        async with serving(limits(head=0.3)) as site:
            hanging = [await Client.connect(site, first) for _ in range(20)]
            for client in hanging if first else ():
                assert (await client.answer())[0] == 200
            for client in hanging:
                client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-a: ")
            assert (await (await Client.connect(site, get())).answer())[0] == 200
            for client in hanging:
                status, _, reason = await client.refused()
                assert (status, reason) == (408, "the request did not come in time")

    assert {line["event"] for line in play(main())} == {"http.head_timeout"}


def test_a_server_that_was_slow_answers_a_request_that_came_in_time() -> None:
    async def main() -> None:
        async with serving(limits(head=0.3)) as site:
            client = await Client.connect(site, get()[:10])
            await until_async(lambda: len(site.server) == 1)
            await asyncio.sleep(0.05)
            client.writer.write(get()[10:])
            time.sleep(1)  # noqa: ASYNC251 - the event loop stands still
            assert (await client.answer())[0] == 200

    assert play(main()) == []


def test_who_connects_and_says_nothing_is_closed_without_a_word() -> None:
    async def main() -> None:
        async with serving(limits(head=0.2)) as site:
            client = await Client.connect(site)
            assert await client.reader.read() == b""
            await until_async(lambda: len(site.server) == 0)

    play(main())


def test_a_connection_that_was_answered_is_kept_and_closed_when_it_is_idle() -> None:
    async def main() -> None:
        async with serving(limits(head=0.2, idle=1.0)) as site:
            client = await Client.connect(site, get())
            assert (await client.answer())[0] == 200
            client.writer.write(b"\r\n")  # belongs to no request (RFC 9112, 2.2)
            await asyncio.sleep(0.5)  # no head is awaited
            client.writer.write(get())
            assert (await client.answer())[0] == 200
            assert await client.reader.read() == b""

    play(main())


def test_a_body_may_take_longer_than_a_head() -> None:
    async def main() -> None:
        async with serving(limits(head=0.2)) as site:
            client = await Client.connect(site, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
            for _ in range(8):
                await asyncio.sleep(0.1)
                client.writer.write(b"x")
            assert (await client.answer())[2] == b"xxxxxxxx"

    play(main())


def test_where_all_are_at_work_another_is_refused_and_one_that_ends_makes_room() -> None:
    async def main() -> None:
        async with serving(limits(connections=2, from_loopback=2)) as site:
            working = [await Client.connect(site, get("/hold")) for _ in range(2)]
            await until_async(lambda: site.held == 2)
            status, headers, reason = await (await Client.connect(site, get())).refused()
            assert (status, headers["Retry-After"]) == (503, "1")
            assert reason == "2 connections are open, the maximum; retry later"
            site.go.set()
            for client in working:
                assert (await client.answer())[2] == b"let go"
            working[0].writer.close()
            await until_async(lambda: len(site.server) == 1)
            assert (await (await Client.connect(site, get())).answer())[0] == 200

    assert [line["event"] for line in play(main())] == ["http.limit"]


@pytest.mark.parametrize("waiting", [b"", b"G", get()], ids=["silent", "half", "idle"])
def test_who_waits_for_nothing_makes_way_for_others(waiting: bytes) -> None:
    async def main() -> None:
        async with serving(limits(connections=8, from_loopback=8, crowded=0.2)) as site:
            there = [await Client.connect(site, waiting) for _ in range(7)]
            working = await Client.connect(site, get("/hold"))
            await until_async(lambda: site.held == 1)
            for _ in range(20):
                client = await Client.connect(site, get(more="Connection: close\r\n"))
                assert (await client.answer())[0] == 200
            assert len(site.server) <= 8
            site.go.set()
            assert (await working.answer())[2] == b"let go"
            for client in there:
                client.writer.close()

    play(main())


def test_an_address_has_no_more_connections_than_it_may_and_others_are_let_in() -> None:
    async def main() -> None:
        async with serving(limits(per_address=2, from_loopback=2)) as site:
            first, second = [await Client.connect(site, get()) for _ in range(2)]
            for client in (first, second):
                assert (await client.answer())[0] == 200
            third = await Client.connect(site, get("/hold"))  # the oldest that is idle makes way
            assert await first.reader.read() == b""
            second.writer.write(get("/hold"))
            await until_async(lambda: site.held == 2)
            refused = await (await Client.connect(site, get())).refused()
            assert (refused[0], "from this address" in refused[2]) == (503, True)
            assert (await (await Client.connect(site, get(), of="127.0.0.2")).answer())[0] == 200
            site.go.set()
            assert (await third.answer())[2] == (await second.answer())[2] == b"let go"

    play(main())


@pytest.mark.parametrize("path", ["/large", "/"])
def test_who_does_not_read_is_cut_and_its_answers_are_counted_until_then(path: str) -> None:
    async def main() -> None:
        async with serving(limits(write=0.5)) as site:
            # Small ones fill the buffers as well, where enough of them are asked for.
            deaf = await Client.connect(site, get(path) * (1 if path == "/large" else 20_000), read=4096)
            if path == "/large":
                await until_async(lambda: site.server.answers.size > LARGE)
            assert (await (await Client.connect(site, get())).answer())[0] == 200
            await until_async(lambda: len(site.server) == 1 and site.server.answers.size == 0)
            deaf.writer.close()

    assert "http.unread" in {line["event"] for line in play(main())}


def test_who_reads_slowly_gets_all_of_it() -> None:
    async def main() -> None:
        async with serving(limits(write=2.0, slice=64 << 10)) as site:
            client = await Client.connect(site, get("/large"), read=4096)
            await client.reader.readuntil(b"\r\n\r\n")
            left = LARGE
            while left:
                left -= len(await client.reader.read(1 << 16))
                if left % 97 == 0:
                    await asyncio.sleep(0.01)

    assert play(main()) == []


def test_where_too_many_answers_are_not_read_the_next_large_one_is_refused_and_small_ones_are_not() -> None:
    async def main() -> None:
        async with serving(limits(answers=3 * LARGE)) as site:
            deaf = await Client.connect(site, get("/large"), read=4096)
            await until_async(lambda: site.server.answers.size > 0)
            other = await Client.connect(site, get("/large") + get())
            status, headers, body = await other.answer()
            assert (status, headers["Retry-After"]) == (503, "1")
            assert json.loads(body) == {
                "error": {"reason": "too many answers are waiting for clients to read them; retry later"}
            }
            assert (await other.answer())[2] == b"hello"
            deaf.writer.transport.abort()
            await until_async(lambda: site.server.answers.size == 0)
            other.writer.write(get("/large"))
            assert (await other.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    play(main())


def test_open_files_that_are_used_up_are_said_once_and_who_waits_gets_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = [OSError(errno.EMFILE, "Too many open files")] * 5 + [OSError(errno.EPROTO, "Protocol error")]
    accept = socket.socket.accept

    def scarce(listening: socket.socket) -> tuple[socket.socket, object]:
        if failing:
            raise failing.pop()
        return accept(listening)

    async def main() -> None:
        async with serving(PATIENT) as site:
            monkeypatch.setattr(socket.socket, "accept", scarce)
            assert (await (await Client.connect(site, get())).answer())[0] == 200
            assert not failing

    assert [line["event"] for line in play(main())] == ["http.cannot_accept"]
    assert caplog.records == []
