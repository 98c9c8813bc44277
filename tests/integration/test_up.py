"""`weir up` as a person runs it: everything starts, what dies comes back, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from command import Running, started, weir
from infra.config import Config
from infra.ports import free_ports

#: Everything is given this long on a busy machine.
PATIENCE_S = 60


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.05)
    return found


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a weir with embedded servers of its own."""
    kafka, controller, postgres, api = free_ports(4)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return inherited | {
        "WEIR_HOME": str(tmp_path / "home"),
        "WEIR_KAFKA_PORT": str(kafka),
        "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
        "WEIR_POSTGRES_PORT": str(postgres),
        "WEIR_API_PORT": str(api),
        "WEIR_PARTITIONS": "1",
    }


def services(environ: dict[str, str]) -> dict[str, Any]:
    """What `weir status --json` says of each service."""
    result = weir(environ, "status", "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["services"]


def state(environ: dict[str, str], *names: str) -> set[str]:
    found = services(environ)
    return {found[name]["state"] for name in names}


def wait_until_up(running: Running) -> None:
    running.wait_for_error_line(b"weir.up")


def gone(pid: int) -> bool:
    """Whether a process has ended. One that nobody collects, as in a container, has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def tree() -> Iterator[Callable[[Running], list[int]]]:
    """Gives the processes that a weir has started, down to the last; fails where one lives on after the test."""
    seen: list[int] = []

    def children(running: Running) -> list[int]:
        seen.extend(child.pid for child in psutil.Process(running.process.pid).children(recursive=True))
        return seen

    yield children
    until(lambda: all(gone(pid) for pid in seen))


Tree = Callable[[Running], list[int]]


def test_ctrl_c_ends_everything(home: dict[str, str], tree: Tree) -> None:
    with started(home, "up", "--only", "kafka,postgres") as running:
        wait_until_up(running)
        assert state(home, "kafka", "postgres") == {"running"}
        children = tree(running)
        assert len(children) > 2
        assert running.interrupt() == 0
        assert all(gone(pid) for pid in children)
    assert state(home, "kafka", "postgres") == {"stopped"}
    assert not list(Path(home["WEIR_HOME"], "run").glob("*.json"))


def started_for(home: Path) -> list[int]:
    """The living processes whose command names the home, whoever their parent is."""
    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or ())]


def test_ctrl_c_ends_all_of_it_and_leaves_nothing(home: dict[str, str], tree: Tree) -> None:
    [feed] = free_ports(1)
    environ = home | {"WEIR_FEED_PORT": str(feed), "WEIR_FEED_URL": f"ws://127.0.0.1:{feed}"}
    with started(environ, "feed", "serve", "--random"), started(environ, "up") as running:
        wait_until_up(running)
        names = ("kafka", "postgres", "worker-links", "link-store", "api", "feed")
        until(lambda: state(environ, *names) <= {"running"})
        children = tree(running)
        assert len(children) >= len(names)
        assert running.interrupt() == 0
        assert all(gone(pid) for pid in children)
        assert started_for(Path(home["WEIR_HOME"])) == []


def test_every_address_that_is_told_works_as_it_is(home: dict[str, str]) -> None:
    with started(home, "up", "--only", "kafka,postgres") as running:
        wait_until_up(running)
        told = json.loads(weir(home, "status", "--json").stdout)
        with psycopg.connect(told["postgres"]) as connection:
            assert connection.execute("SELECT to_regclass('link_counts')").fetchone() != (None,)
        host, port = told["kafka"].split(":")
        socket.create_connection((host, int(port))).close()
        assert told["services"]["kafka"]["address"] == f"kafka://{told['kafka']}"
        topics = json.loads(weir(home, "topics", "--json").stdout)
        assert {topic["exists"] for topic in topics} == {True}


def test_a_server_that_dies_is_started_again_with_a_log_line(home: dict[str, str], tree: Tree) -> None:
    with started(home, "up", "--only", "kafka,postgres") as running:
        wait_until_up(running)
        tree(running)
        before = services(home)
        for name in ("kafka", "postgres"):
            os.kill(before[name]["pid"], signal.SIGKILL)
            running.wait_for_error_line(b"child=" + name.encode() + b" exit_code=-9")
        until(lambda: state(home, "kafka", "postgres") == {"running"})
        after = services(home)
        assert all(after[name]["pid"] != before[name]["pid"] for name in ("kafka", "postgres"))
        tree(running)


def test_every_service_runs_on_servers_elsewhere_and_comes_back(
    environ: dict[str, str], config: Config, tree: Tree
) -> None:
    names = ("worker-links", "link-store", "api")
    with started(environ, "up") as running:
        wait_until_up(running)
        tree(running)
        assert state(environ, "kafka", "postgres", *names) == {"running"}
        before = services(environ)
        assert before["api"]["address"] == f"http://127.0.0.1:{config.api_port}"
        for name in names:
            os.kill(before[name]["pid"], signal.SIGKILL)
            running.wait_for_error_line(b"child=" + name.encode() + b" exit_code=-9")
        until(lambda: state(environ, *names) == {"running"})
        assert all(services(environ)[name]["pid"] != before[name]["pid"] for name in names)
        tree(running)
        os.kill(services(environ)["link-store"]["pid"], signal.SIGSTOP)  # one that cannot hear that it should end
        assert running.interrupt() == 0
    assert state(environ, *names) == {"stopped"}


def test_a_weir_that_is_killed_leaves_nothing_and_the_next_one_finds_the_data(home: dict[str, str], tree: Tree) -> None:
    with started(home, "up", "--only", "kafka,postgres") as running:
        wait_until_up(running)
        children = tree(running)
        with psycopg.connect(json.loads(weir(home, "status", "--json").stdout)["postgres"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
        running.process.kill()
        until(lambda: all(gone(pid) for pid in children))
        assert state(home, "kafka", "postgres") == {"stopped"}
    with started(home, "up", "--only", "kafka,postgres") as running:
        wait_until_up(running)
        with psycopg.connect(json.loads(weir(home, "status", "--json").stdout)["postgres"]) as connection:
            assert connection.execute("SELECT x FROM kept").fetchall() == [(42,)]
        tree(running)


def test_a_second_weir_on_the_same_home_says_who_has_it(home: dict[str, str]) -> None:
    with started(home, "up", "--only", "postgres") as running:
        wait_until_up(running)
        second = weir(home, "up")
        assert second.returncode == 1
        [line] = second.stderr.decode().splitlines()
        assert str(running.process.pid) in line


def test_a_port_that_is_taken_is_one_line_and_nothing_is_left(home: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = weir(home | {"WEIR_POSTGRES_PORT": str(port)}, "up", "--only", "kafka,postgres")
    assert failed.returncode == 1
    assert failed.stderr.decode().splitlines()[-1].startswith(f"weir: port {port}")
    assert b"Traceback" not in failed.stderr
    assert state(home, "kafka", "postgres") == {"stopped"}


def test_a_home_that_cannot_be_written_is_one_line(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = weir(home | {"WEIR_HOME": str(tmp_path / "file" / "home")}, "up")
    assert failed.returncode == 1
    [line] = failed.stderr.decode().splitlines()
    assert line.startswith("weir: WEIR_HOME=")


def test_a_kafka_elsewhere_that_does_not_answer_is_one_line(home: dict[str, str]) -> None:
    failed = weir(home | {"WEIR_KAFKA": "127.0.0.1:1", "WEIR_POSTGRES": "postgresql://127.0.0.1:1/x"}, "up")
    assert failed.returncode == 1
    last = failed.stderr.decode().splitlines()[-1]
    assert last.startswith("weir: ")
    assert "127.0.0.1:1" in last
