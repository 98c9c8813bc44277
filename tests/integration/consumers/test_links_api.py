"""Closed windows over HTTP and on the command line."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from support.command import Running, started, weir
from support.engine.messages import message
from support.links.link_records import MINUTE, NOON, cell, closed, window
from support.processes import COMMAND
from support.servers.own_servers import own
from support.wait import PATIENCE_S, until
from weir.consumers.links.tables import LINK_STORE, LINK_TABLES
from weir.consumers.sinks.batch import Batch, Batcher
from weir.consumers.sinks.store import SinkStore
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.ports import free_ports
from weir.infra.runtime.clock import wall_clock
from weir.infra.servers.postgres import PostgresServer
from weir.schemas.links import LinkCount
from weir.schemas.windows import WindowClosed


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """Asks the API of one test."""

    def __init__(self, config: Config) -> None:
        self._port = config.api.port

    def get(self, path: str, **parameters: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path + ("?" + urllib.parse.urlencode(parameters) if parameters else ""))
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()), dict(response.getheaders()))
        finally:
            connection.close()

    def links(self, **parameters: str) -> Answer:
        return self.get("/links", **parameters)


def store(config: Config, *records: tuple[int, LinkCount | WindowClosed]) -> None:
    """Stores records as the sink would."""
    postgres.migrate(config)
    tables = {table.topic.name: table for table in LINK_TABLES}
    batch = Batcher(LINK_STORE, tables).batch(
        message("link-counts" if isinstance(record, LinkCount) else "link-windows", partition, 0,
                msgspec.json.encode(record))
        for partition, record in records
    )  # fmt: skip
    with SinkStore(config, LINK_STORE, LINK_TABLES) as sink:
        sink.write(Batch(batch.parts), {})


def whole(number: int, *links: tuple[str, str, int]) -> Iterable[tuple[int, LinkCount | WindowClosed]]:
    """A window that its one partition has closed, with these links."""
    yield from ((0, cell(number, *link, final=True)) for link in links)
    yield 0, closed(number, 0, len(links), 1)


def summary(number: int, *links: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "window": {"start": window(number).start, "end": window(number).end},
        "links": [{"source": source, "destination": destination, "count": n} for source, destination, n in links],
    }


@pytest.fixture
def api(environ: dict[str, str], config: Config) -> Iterator[Client]:
    postgres.migrate(config)
    with started(environ, "run", "api") as service:
        wait_for(service)
        yield Client(config)


def wait_for(service: Running) -> None:
    service.wait_for_error_line(b"api.running")


FROM, TO = window(0).start, window(60).start


def test_exactly_the_closed_windows_are_given_the_empty_ones_too(api: Client, config: Config) -> None:
    store(
        config,
        *whole(0, ("b", "a", 1), ("a", "b", 2)),
        *whole(1),
        (0, cell(2, "a", "b", 3)),  # open
        *((partition, cell(3, "a", str(partition), 1, final=True)) for partition in (0, 1)),
        (0, closed(3, 0, 1, 3)),  # two of its three partitions have closed it
        (1, closed(3, 1, 1, 3)),
        (0, cell(4, "a", "b", 1, final=True)),  # closed, and not all of its counts are here
        (0, closed(4, 0, 2, 1)),
        *whole(5, ("a", "a", 5)),
    )
    answer = api.links(**{"from": FROM, "to": TO})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == [summary(0, ("a", "b", 2), ("b", "a", 1)), summary(1), summary(5, ("a", "a", 5))]


def test_a_revision_of_one_partition_does_not_stand_in_for_a_count_of_another(api: Client, config: Config) -> None:
    store(
        config,
        (0, cell(0, "a", "b", 1, final=True)),
        (0, cell(0, "a", "c", 1, final=True)),  # came late: partition 0 closed with one count
        (0, closed(0, 0, 1, 2)),
        (1, closed(0, 1, 1, 2)),  # and this one is not here yet
    )
    assert api.links(**{"from": FROM, "to": TO}).body == []
    store(config, (1, cell(0, "z", "z", 1, final=True)))
    assert api.links(**{"from": FROM, "to": TO}).body == [summary(0, ("a", "b", 1), ("a", "c", 1), ("z", "z", 1))]


def test_a_range_takes_the_windows_that_start_in_it(api: Client, config: Config) -> None:
    store(config, *(record for number in range(5) for record in whole(number)))
    answer = api.links(**{"from": window(1).start, "to": window(3).start})
    assert answer.body == [summary(1), summary(2)]


def test_a_long_answer_comes_in_pages_that_lose_and_repeat_nothing(api: Client, config: Config) -> None:
    store(config, *(record for number in range(7) for record in whole(number, ("a", "b", number))))
    found, pages = [], 0
    answer = api.links(**{"from": FROM, "to": TO, "limit": "3"})
    while True:
        found += answer.body
        pages += 1
        link = answer.headers.get("Link")
        if link is None:
            break
        assert link.endswith('; rel="next"')
        answer = api.get(link[1 : link.index(">")])
    assert pages == 3
    assert found == [summary(number, ("a", "b", number)) for number in range(7)]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "'; DROP TABLE link_counts; --"}, "to"),
        ({"limit": "0"}, "limit"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}, "from"),
        ({"since": "2026-01-01T00:00:00Z"}, "since"),
        ({"from": "2026-01-01T00:00:00Z\0"}, "from"),
    ],
)
def test_a_bad_parameter_is_a_400_with_the_field_and_the_reason(
    api: Client, parameters: dict[str, str], field: str
) -> None:
    answer = api.links(**parameters)
    assert answer.status == 400
    assert answer.body["error"]["field"] == field
    assert answer.body["error"]["reason"]


def test_the_edges_of_the_calendar_can_be_asked_for(api: Client) -> None:
    answer = api.links(**{"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999Z"})
    assert (answer.status, answer.body) == (200, [])


def test_health_is_ok_and_an_unknown_path_is_404(api: Client) -> None:
    assert api.get("/health")[:2] == (200, {"status": "ok"})
    connection = http.client.HTTPConnection("127.0.0.1", api._port, timeout=PATIENCE_S)
    connection.request("GET", "/nowhere")
    assert connection.getresponse().status == 404
    connection.close()


def test_postgres_away_is_a_503_and_over_when_it_is_back(environ: dict[str, str], config: Config) -> None:
    [port] = free_ports(1)
    mine = environ | {"WEIR_POSTGRES_PORT": str(port)}
    del mine["WEIR_POSTGRES"]
    settings = config.replace(WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
    with started(mine, "run", "api") as service:
        wait_for(service)
        client = Client(config)

        def away() -> bool:
            answers = [client.links(), client.get("/health")]
            assert all(answer.headers["Retry-After"] == "5" for answer in answers if answer.status == 503)
            assert all(answer.body["error"]["reason"] for answer in answers if answer.status == 503)
            return [answer.status for answer in answers] == [503, 503]

        assert away()
        with own(PostgresServer(settings)) as server:
            assert away()  # it is there, and has no tables yet
            store(settings, *whole(0, ("a", "b", 1)))
            until(lambda: client.get("/health").status == 200)
            assert client.links(**{"from": FROM, "to": TO}).body == [summary(0, ("a", "b", 1))]
            server.kill()
            until(away)
            server.start()
            until(lambda: client.links(**{"from": FROM, "to": TO}).body == [summary(0, ("a", "b", 1))])
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE_S) == 0


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(environ: dict[str, str], api: Client) -> None:
    result = weir(environ, "run", "api")
    assert result.returncode == 1
    assert b"WEIR_API_PORT" in result.stderr.splitlines()[-1]


def test_the_command_line_shows_what_the_api_gives(environ: dict[str, str], config: Config) -> None:
    store(config, *whole(0, ("[red]a[/red]", "b", 1234)), *whole(1), *whole(2))
    asked = ("links", "--from", FROM, "--to", TO)
    result = weir(environ, *asked, "--json", "--limit", "2")
    assert json.loads(result.stdout) == [summary(0, ("[red]a[/red]", "b", 1234)), summary(1)]
    assert f"there are more: --from {window(2).start}".encode() in result.stderr
    table = on_terminal(environ, *asked)
    assert "[red]a[/red]" in table
    assert "1,234" in table
    assert window(1).start in table


def test_the_command_line_gives_a_pipe_one_line_for_each_link(environ: dict[str, str], config: Config) -> None:
    store(config, *whole(0, ("a b", "c", 1234), ("d", "e", 1)), *whole(1), *whole(2, ("d", "e", 2)))
    result = weir(environ, "links", "--from", FROM, "--to", TO)
    assert result.stdout.decode().splitlines() == [
        f"{window(0).start}\ta b\tc\t1234",
        f"{window(0).start}\td\te\t1",
        f"{window(2).start}\td\te\t2",
    ]
    none = weir(environ, "links", "--from", "2000-01-01T00:00:00Z", "--to", "2000-01-01T00:01:00Z")
    assert none.stdout == b""
    assert b"no closed windows from 2000" in none.stderr


def test_windows_are_followed_as_they_close(environ: dict[str, str], config: Config) -> None:
    now = (wall_clock() - NOON) // MINUTE
    store(config, *whole(0, ("long", "ago", 1)), *whole(now, ("a", "b", 7)))
    with started(environ, "links", "--follow") as following:
        following.wait_for(lambda: following.out == [f"{window(now).start}\ta\tb\t7\n".encode()])
        store(config, *whole(now + 1), *whole(now + 2, ("c", "d", 1)))
        following.wait_for(lambda: following.out[1:] == [f"{window(now + 2).start}\tc\td\t1\n".encode()])
        assert following.interrupt() == 0


def test_a_range_cannot_be_followed(environ: dict[str, str]) -> None:
    for option in (["--from", FROM], ["--to", TO], ["--json"]):
        done = weir(environ, "links", "--follow", *option)
        assert (done.returncode, done.stderr) == (1, b"weir: --follow goes without --from, --to and --json\n")


def on_terminal(environ: dict[str, str], *arguments: str) -> str:
    """Returns the command's output on a terminal."""
    terminal, inner = pty.openpty()
    try:
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        subprocess.run(
            [*COMMAND, *arguments], env=environ | {"TERM": "dumb"}, stdout=inner, timeout=PATIENCE_S, check=True
        )
        return os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(inner)


def test_the_command_line_says_what_is_wrong_in_one_line(environ: dict[str, str]) -> None:
    result = weir(environ, "links", "--from", "noon")
    assert result.returncode == 1
    assert result.stderr.startswith(b"weir: `from`: 'noon' is not an RFC 3339 time")
    result = weir(environ, "links")
    assert result.returncode == 1
    assert b"does not have weir's tables yet" in result.stderr
    assert len(result.stderr.splitlines()) == 1
