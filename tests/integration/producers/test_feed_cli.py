"""`weir feed connect` and `weir feed serve` as processes: their starts, their ends, their one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.servers.feed_servers import scripted
from support.wait import PATIENCE_S, until_async
from weir.infra import config as configuration
from weir.infra.ports import free_ports
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.status import ServiceStatus, read_all
from weir.schemas.times import to_rfc3339

RELATIONS = '[{"parent":"A","child":"a"},{"parent":"B","child":"b"}]'
CALL = '{"source":"a","destination":"b"}'
FEED = f'{{"at":0,"message":{RELATIONS}}}\n{{"at":0.1,"message":{CALL}}}\n'


@contextlib.contextmanager
def weir(environ: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `weir feed` process, which does not outlive the block."""
    command = [sys.executable, "-m", "weir", "feed", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def failed(environ: dict[str, str], *arguments: str) -> str:
    """Returns the standard error of a process that exits with 1."""
    with weir(environ, *arguments) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
        return err


def stopped(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
    """The output of a process that is asked to stop, does so within five seconds, and says that all is well."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


def said(environ: dict[str, str], name: str) -> ServiceStatus | None:
    """Returns the last status that the service wrote."""
    return next((s for s in read_all(configuration.load(environ)) if s.name == name), None)


def state(environ: dict[str, str]) -> str:
    status = said(environ, "feed")
    return status.state if status else "unheard"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment with no server at all: Kafka's port has nobody."""
    [kafka] = free_ports(1)
    return {"WEIR_HOME": str(tmp_path / "home"), "WEIR_KAFKA": f"127.0.0.1:{kafka}", "PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_connect_reads_until_the_signal_and_ends_in_order(environ: dict[str, str], number: signal.Signals) -> None:
    async def script(feed: web.WebSocketResponse, _: int) -> None:
        await feed.send_str(RELATIONS)
        await feed.send_str(CALL)

    async def run() -> None:
        async with scripted(script) as feed:
            with weir(environ, "connect", feed.url) as process:
                await until_async(
                    lambda: (s := said(environ, "feed")) is not None and s.detail.get("communications") == 1
                )
                assert state(environ) == "running"
                _, err = await asyncio.to_thread(stopped, process, number)
                assert said(environ, "feed") is None
                assert "feed.read_to_the_end" in err

    asyncio.run(run())


def test_connect_waits_for_a_kafka_that_is_not_there_and_can_be_stopped(bare: dict[str, str]) -> None:
    with weir(bare, "connect", "ws://127.0.0.1:1") as process:
        asyncio.run(until_async(lambda: state(bare) == "waiting"))
        assert "feed.waiting" in stopped(process)[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["connect"], "no feed given: pass its address, or set WEIR_FEED_URL"),
        (["connect", "http://localhost"], "'http://localhost' is not a valid feed address"),
        (["serve"], "give one thing to play: a FILE, --sample or --random"),
        (["serve", "--random", "--loop"], "--loop is for a file"),
        (["serve", "--random", "--rate", "0"], "must be positive"),
        (["serve", "/nowhere/a.feed.ndjson"], "/nowhere/a.feed.ndjson: No such file or directory"),
        (["serve", "--random", "--record", "/nowhere/a.feed.ndjson"], "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(bare: dict[str, str], arguments: list[str], line: str) -> None:
    err = failed(bare, *arguments)
    assert err.startswith("weir: ")
    assert line in err
    assert err.count("\n") == 1


def test_a_bad_line_of_a_recorded_feed_is_named(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "bad.feed.ndjson"
    file.write_text(FEED + '{"at":1}\n')
    assert failed(bare, "serve", str(file)) == f"weir: {file}:3: Object missing required field `message`\n"


Answer = Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]]


def answers(count: int) -> Answer:
    """Sends back one window in which A called B so often."""

    async def answer(socket: aiohttp.ClientWebSocketResponse) -> None:
        start = wall_clock() // 60_000 * 60_000
        window = {"start": to_rfc3339(start), "end": to_rfc3339(start + 60_000)}
        await socket.send_json({"window": window, "links": [{"source": "A", "destination": "B", "count": count}]})

    return answer


async def play(environ: dict[str, str], answer: Answer, *arguments: str) -> tuple[list[str], int, str]:
    """Runs `weir feed serve`, reads two messages, answers; what was received, the exit code, and the output."""
    [port] = free_ports(1)
    with weir(environ, "serve", *arguments, "--port", str(port), "--timeout", "1") as process:
        await until_async(lambda: said(environ, "feed-server") is not None)
        status = said(environ, "feed-server")
        assert status is not None
        assert status.address == f"ws://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session, session.ws_connect(status.address) as socket:
            received = [(await socket.receive()).data for _ in range(2)]
            await answer(socket)
            received += [message.data async for message in socket]
        out, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
        assert said(environ, "feed-server") is None
        return received, process.returncode, out


@pytest.mark.parametrize(("counted", "code", "difference"), [(1, 0, 0), (0, 1, -1), (2, 1, 1)])
def test_serve_plays_compares_and_exits_with_the_result(
    bare: dict[str, str], tmp_path: Path, counted: int, code: int, difference: int
) -> None:
    file, recorded = tmp_path / "a.feed.ndjson", tmp_path / "again.feed.ndjson"
    file.write_text(FEED)
    arguments = [str(file), "--json", "--speed", "2", "--record", str(recorded)]
    received, exit_code, out = asyncio.run(play(bare, answers(counted), *arguments))
    assert received == [RELATIONS, CALL]
    assert exit_code == code
    result = json.loads(out)
    assert (result["equal"], result["whole"], result["sent"], result["counted"]) == (code == 0, True, 1, counted)
    assert [(p["source"], p["destination"], p["difference"]) for p in result["pairs"]] == [("A", "B", difference)]
    assert list(map(json.loads, recorded.read_text().splitlines())) == list(map(json.loads, FEED.splitlines()))


def test_serve_prints_the_comparison_for_people(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.feed.ndjson"
    file.write_text(FEED)
    _, exit_code, out = asyncio.run(play(bare, answers(1), str(file)))
    assert exit_code == 0
    assert "sent and counted: equal" in out


def test_serve_can_be_stopped_at_any_moment(bare: dict[str, str]) -> None:
    with weir(bare, "serve", "--random", "--json", "--port", "0") as process:
        asyncio.run(until_async(lambda: said(bare, "feed-server") is not None))
        out, _ = stopped(process)  # nothing was sent, so nothing is missing
        assert json.loads(out)["whole"] is False


LATER = f'{FEED}{{"at":3600,"message":{CALL}}}\n'


async def interrupted(
    environ: dict[str, str], file: Path, then: Callable[[subprocess.Popen[str], aiohttp.ClientWebSocketResponse], Any]
) -> tuple[int, dict[str, Any], str]:
    """Ctrl-C once two messages were read, and `then`: the exit code, the comparison, and the log."""
    [port] = free_ports(1)
    with weir(environ, "serve", str(file), "--json", "--port", str(port)) as process:
        await until_async(lambda: said(environ, "feed-server") is not None)
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{port}") as socket:
            for _ in range(2):
                await socket.receive()
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while "feed.stopped_sending" not in (line := await asyncio.to_thread(process.stderr.readline)):
                assert line
            await then(process, socket)
            assert not [message.data async for message in socket if message.type is aiohttp.WSMsgType.TEXT]
        out, err = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
        return process.returncode, json.loads(out), err


def test_ctrl_c_ends_the_sending_and_waits_for_what_was_sent(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.feed.ndjson"
    file.write_text(LATER)

    async def then(_: subprocess.Popen[str], socket: aiohttp.ClientWebSocketResponse) -> None:
        await answers(1)(socket)

    code, result, _ = asyncio.run(interrupted(bare, file, then))
    assert (code, result["equal"], result["whole"], result["sent"], result["not_back"]) == (0, True, False, 1, 0)


def test_ctrl_c_once_more_gives_up_and_what_is_not_back_is_not_wrong(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.feed.ndjson"
    file.write_text(LATER)

    async def then(process: subprocess.Popen[str], _: aiohttp.ClientWebSocketResponse) -> None:
        process.send_signal(signal.SIGINT)

    code, result, _ = asyncio.run(interrupted(bare, file, then))
    assert (code, result["equal"], result["sent"], result["counted"], result["not_back"]) == (1, False, 1, 0, 1)


def test_serve_plays_a_random_feed_and_tells_what_it_sent(bare: dict[str, str]) -> None:
    arguments = ["--random", "--duration", "3", "--seed", "1", "--speed", "10", "--json"]
    received, exit_code, out = asyncio.run(play(bare, answers(0), *arguments))
    messages = [json.loads(message) for message in received]
    result = json.loads(out)
    assert (result["whole"], result["equal"], exit_code) == (True, False, 1)  # this client has counted nothing
    assert result["messages"] == len(messages) > 0
    assert result["communications"] == len(elements(messages, "destination")) > 0
    assert result["relations"] == len(elements(messages, "child")) > 0
    again, *_ = asyncio.run(play(bare, answers(0), *arguments))
    assert [elements([json.loads(message)], "child") for message in again] == [
        elements([message], "child") for message in messages
    ]


def elements(messages: list[Any], field: str) -> list[dict[str, Any]]:
    """Returns the elements that have the field, from all messages: a message is one element, or a list of them."""
    lists = [message if isinstance(message, list) else [message] for message in messages]
    return [element for one in lists for element in one if field in element]
