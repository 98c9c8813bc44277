"""Requests that are malformed, fail, or are followed by no more: what is answered to them."""

from __future__ import annotations

import asyncio
import json

import pytest

from support.http.http_site import PATIENT, Client, get, play, serving
from support.wait import until_async

BAD = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "a bad header": (b"GET / HTTP/1.1\r\nHost: x\r\nb\x00d: y\r\n\r\n", 400),
    "a long header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-a: " + b"y" * 20_000 + b"\r\n\r\n", 400),
    "a bad length": (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_request_is_told_so_in_json_and_logs_one_line_without_a_traceback(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            for _ in range(10):
                status, _, reason = await (await Client.connect(site, BAD[name][0])).refused()
                assert (status, reason.startswith("the request is malformed")) == (BAD[name][1], True)
                assert "\n" not in reason

    lines = play(main())
    assert {line["event"] for line in lines} == {"http.malformed"}
    assert len(lines) < 10
    assert not any("exc_info" in line for line in lines)
    assert caplog.records == []


def test_errors_that_no_handler_made_have_the_form_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            asked = [
                (get("/nothing"), 404, "unknown path"),
                (b"DELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method DELETE is not allowed; allowed: POST"),
                (get("/", "Expect: wonders\r\n"), 417, "unsupported Expect header; supported: 100-continue"),
                (get("/fails"), 500, "internal error; the service's log describes it"),
            ]
            for request, wanted, reason in asked:
                client = await Client.connect(site, request)
                status, headers, body = await client.answer()
                assert (status, json.loads(body)) == (wanted, {"error": {"reason": reason}})
                assert headers["Content-Type"].startswith("application/json")
                assert ("Allow" in headers) == (wanted == 405)

    [line] = play(main())
    assert (line["event"], type(line["exc_info"])) == ("http.failed", KeyError)
    assert caplog.records == []


def test_who_stops_sending_behind_its_requests_gets_their_answers() -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            client = await Client.connect(site, get("/hold") + get())
            await until_async(lambda: site.held == 1)
            client.writer.write_eof()
            await asyncio.sleep(0.2)
            site.go.set()
            assert [(await client.answer())[2] for _ in range(2)] == [b"let go", b"hello"]
            assert await client.reader.read() == b""
            at_once = await Client.connect(site, get())
            at_once.writer.write_eof()
            assert (await at_once.answer())[2] == b"hello"
            assert await at_once.reader.read() == b""

    play(main())


def test_who_stops_sending_gets_the_answers_to_all_requests_that_wait() -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            client = await Client.connect(site, get() * 500)
            client.writer.write_eof()
            assert {(await client.answer())[2] for _ in range(500)} == {b"hello"}
            assert await client.reader.read() == b""

    play(main())


def test_who_stops_sending_and_reads_slowly_gets_the_whole_answer() -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            client = await Client.connect(site, get("/tail"), read=4096)
            client.writer.write_eof()
            await client.reader.readuntil(b"\r\n\r\n")
            await until_async(lambda: len(site.server) == 1 and site.unsent() > 0)
            await asyncio.sleep(0.2)  # past the moment at which a half-closed connection is closed
            assert (await client.reader.read()).count(0) == site.tail  # the frames of the chunks aside
            await until_async(lambda: len(site.server) == 0)

    play(main())


def test_who_stops_in_the_middle_of_a_body_is_closed() -> None:
    async def main() -> None:
        async with serving(PATIENT) as site:
            client = await Client.connect(site, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nxx")
            client.writer.write_eof()
            await client.reader.read()
            await until_async(lambda: len(site.server) == 0)

    play(main())
