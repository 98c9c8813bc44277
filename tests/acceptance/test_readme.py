"""The README, section by section, its commands as they stand there, on one weir that runs."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.command import Running, json_lines, started, weir
from support.http.http_service import HttpService, with_curl
from support.readme import pasted, run, shell_blocks
from support.websocket.websocket_shell import typed, with_websocket_tools
from weir.infra.config import Config
from weir.infra.runtime.status import read_all

FIGURES = ("count", "sum", "avg", "min", "max", "p50", "p95", "p99", "users")


@pytest.fixture(scope="module")
def environ(shared_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the shell, in which the tools of the README are found; a window ends while a test waits."""
    environ = with_websocket_tools(shared_environ, tmp_path_factory.mktemp("websocket"))
    return with_curl(environ, tmp_path_factory.mktemp("curl")) | {"WEIR_LINKS_WINDOW": "3s", "WEIR_LINKS_GRACE": "1s"}


@pytest.fixture(scope="module")
def up(environ: dict[str, str], shared_config: Config) -> Iterator[Running]:
    """Starts `weir up`, as the README does first, and leaves it running for the tests of this file."""
    assert shell_blocks("First steps")[0] == ". .venv/bin/activate\nweir up\n"
    with started(environ, "up") as running:
        running.wait_for(lambda: any(b"Ctrl-C ends everything" in line for line in running.out))
        yield running
        assert running.interrupt() == 0


def at(environ: dict[str, str], text: str, ports: dict[str, str]) -> str:
    """A block or an address of the README's, at this weir's ports."""
    for port, variable in ports.items():
        for host in ("localhost", "127.0.0.1"):
            text = text.replace(f"{host}:{port}", f"127.0.0.1:{environ[variable]}")
    return text


def test_the_first_steps_do_what_they_say(up: Running, environ: dict[str, str]) -> None:
    _, send, see, ask = shell_blocks("First steps")
    assert run(send, environ) == b"accepted 1, refused 0\naccepted 1, refused 0\n"

    [record] = json_lines(run(see, environ))
    count = {name: record["value"][name] for name in ("source", "destination", "count")}
    assert count == {"source": "shop", "destination": "billing", "count": 1}

    up.wait_for(lambda: "shop" in weir(environ, "links", "--json").stdout.decode())
    links, curl = ask.splitlines()
    assert b"shop" in run(links, environ)
    windows = json.loads(run(at(environ, curl, {"8000": "WEIR_API_PORT"}), environ))
    assert [window["links"] for window in windows if window["links"]] == [[count]]


def test_a_broadcast_message_reaches_everyone(up: Running, environ: dict[str, str], shared_config: Config) -> None:
    def count(fact: str) -> object:
        return next((s.detail.get(fact) for s in read_all(shared_config) if s.name == "broadcast"), None)

    [receive], [send], [receive_too, send_too], ours = [block.splitlines() for block in shell_blocks("Broadcast")]
    with ExitStack() as stack:
        subscribers = [stack.enter_context(typed(command, environ)) for command in (receive, receive, receive_too)]
        up.wait_for(lambda: count("subscribers") == 3)
        for number, command in enumerate((send, send_too), 1):
            sender = stack.enter_context(typed(command, environ))
            up.wait_for(lambda wanted=number: count("senders") == wanted)  # type: ignore[misc]
            text = f"message {number}".encode()
            assert sender.process.stdin is not None
            sender.process.stdin.write(text + b"\n")
            sender.process.stdin.flush()
            for subscriber in subscribers:
                subscriber.wait_for(lambda by=subscriber, text=text: text in b"".join(by.out))  # type: ignore[misc]
        assert run("\n".join(ours), environ) == b"acknowledged 1 of 1\nhello\n"


def test_a_wrong_password_is_refused(up: Running, environ: dict[str, str]) -> None:
    _, [send], _, _ = [block.splitlines() for block in shell_blocks("Broadcast")]
    wrong = send.replace("dXNlcjpwd2Q=", "dXNlcjp3cm9uZw==")
    assert wrong != send
    with typed(wrong, environ) as sender:
        sender.wait_for(lambda: b"401" in b"".join(sender.err))
        assert sender.end() != 0


def test_an_event_of_a_client_is_in_its_totals(up: Running, environ: dict[str, str], shared_config: Config) -> None:
    [block] = shell_blocks("Monitoring")
    HttpService(up, shared_config, shared_config.monitoring.port).ask("/health")
    told, found = pasted(at(environ, block, {"8090": "WEIR_MONITORING_PORT"}), environ)
    assert (told["accepted"], told["refused"]) == (1, 0)
    total = {"event_type": "CUMULATIVE", "event_value": 12, "events": 1, "event_timestamp": 1_769_860_800_000}
    assert found["data"] == {"requests": total}


def test_a_metric_event_is_in_its_aggregates(up: Running, environ: dict[str, str], shared_config: Config) -> None:
    [block] = shell_blocks("Metrics")
    HttpService(up, shared_config, shared_config.metrics.port).ask("/health")
    told, found = pasted(at(environ, block, {"8091": "WEIR_METRICS_PORT"}), environ)
    assert (told["accepted"], told["refused"]) == (1, 0)
    assert found["aggregates"]["login"] == dict.fromkeys(FIGURES, 0.25) | {"count": 1, "users": 1}


def test_an_event_of_a_tenant_is_in_its_day(up: Running, environ: dict[str, str]) -> None:
    tell, ask = shell_blocks("Tenants' analytics")
    assert run(tell, environ).endswith(b"accepted 1, refused 0\n")
    command, url = at(environ, ask, {"8000": "WEIR_API_PORT"}).strip().rsplit(" ", 1)
    assert command == "curl -s"

    def days() -> list[dict[str, object]]:
        with urllib.request.urlopen(url.strip("'")) as answer:
            found: list[dict[str, object]] = json.load(answer)["days"]
            return found

    up.wait_for(lambda: days() != [])
    [day] = days()
    told = {"tenant_id": 7, "day": "2026-01-31", "events": 1, "avg": 12.5}
    assert {name: day[name] for name in told} == told
