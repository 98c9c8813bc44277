"""`weir up` as a person runs it: everything starts, what dies comes back, and nothing is left behind."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import termios
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from support.command import Running, started, weir
from support.processes import start
from support.wait import PATIENCE_S, until
from weir.infra.config import Config
from weir.infra.errors import StartError
from weir.infra.ports import free_ports
from weir.infra.prometheus import METRICS
from weir.infra.supervisor.logs import log_file
from weir.services.up import up

NOT_SERVICES = ("kafka", "postgres", "feed-server")


def asked(url: str) -> tuple[int, str]:
    """The status and the body of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode().rstrip("\n")
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def embedded(folder: Path) -> dict[str, str]:
    """The environment of a weir with embedded servers of its own."""
    kafka, controller, postgres, api = free_ports(4)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return inherited | {
        "WEIR_HOME": str(folder / "home"),
        "WEIR_KAFKA_PORT": str(kafka),
        "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
        "WEIR_POSTGRES_PORT": str(postgres),
        "WEIR_API_PORT": str(api),
        "WEIR_PARTITIONS": "1",
    }


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal of 100 columns: what a person sees, and what a program is given."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    yield master, slave
    os.close(slave)
    os.close(master)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a weir of the test's own, with embedded servers."""
    return embedded(tmp_path)


def services(environ: dict[str, str]) -> dict[str, Any]:
    """Returns the services of `weir status --json`, by name."""
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


def descendants(running: Running) -> list[int]:
    """The processes that a weir has started, down to the last."""
    return [child.pid for child in psutil.Process(running.process.pid).children(recursive=True)]


@pytest.fixture
def tree() -> Iterator[Callable[[Running], list[int]]]:
    """Gives the processes that a weir has started, down to the last; fails where one lives on after the test."""
    seen: list[int] = []

    def children(running: Running) -> list[int]:
        seen.extend(descendants(running))
        return seen

    yield children
    until(lambda: all(gone(pid) for pid in seen))


Tree = Callable[[Running], list[int]]


def started_for(home: Path) -> list[int]:
    """The living processes whose command names the home, whoever their parent is."""
    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a weir with embedded servers, and a feed that it connects to."""
    [feed] = free_ports(1)
    return embedded(tmp_path_factory.mktemp("up")) | {
        "WEIR_FEED_PORT": str(feed),
        "WEIR_FEED_URL": f"ws://127.0.0.1:{feed}",
    }


@pytest.fixture(scope="module")
def whole(shared_home: dict[str, str]) -> Iterator[Running]:
    """A weir with everything, which the tests of this file share up to the one that ends it."""
    with started(shared_home, "feed", "serve", "--random"), started(shared_home, "up") as running:
        wait_until_up(running)
        yield running


def test_every_address_that_is_told_works_as_it_is(whole: Running, shared_home: dict[str, str]) -> None:
    told = json.loads(weir(shared_home, "status", "--json").stdout)
    with psycopg.connect(told["postgres"]) as connection:
        assert connection.execute("SELECT to_regclass('link_counts')").fetchone() != (None,)
    host, port = told["kafka"].split(":")
    socket.create_connection((host, int(port))).close()
    assert told["services"]["kafka"]["address"] == f"kafka://{told['kafka']}"
    topics = json.loads(weir(shared_home, "topics", "--json").stdout)
    assert {topic["exists"] for topic in topics} == {True}


def test_every_process_says_how_it_does_and_prometheus_reads_its_metrics(
    whole: Running, shared_home: dict[str, str]
) -> None:
    addresses = {name: one["address"] for name, one in services(shared_home).items() if name not in NOT_SERVICES}
    found = set()
    for name, address in addresses.items():
        at = address.replace("ws://", "http://")
        until(lambda at=at: asked(f"{at}/readyz")[0] == 200)
        assert asked(f"{at}/healthz") == (200, '{"status":"ok"}')
        assert json.loads(asked(f"{at}/")[1])["service"] == name
        families = {family.name: family for family in parse(asked(f"{at}/metrics")[1])}
        [ready] = families["weir_service_ready"].samples
        assert (ready.labels, ready.value) == ({"service": name}, 1)
        assert "process_resident_memory_bytes" in families
        found |= families.keys()
    unseen = {metric.name.removesuffix("_total") for metric in METRICS} - found
    assert unseen == {"weir_websocket_evicted"}  # nobody was


def test_status_and_logs_say_what_an_operator_asks(whole: Running, shared_home: dict[str, str]) -> None:
    until(lambda: weir(shared_home, "status", "--check").returncode == 0)
    one = dict(line.split(b"\t") for line in weir(shared_home, "status", "worker-links").stdout.splitlines())
    assert (one[b"state"], one[b"partitions"]) == (b"running", b"communications[0] links-partials[0] relations[0]")
    unknown = weir(shared_home, "status", "nobody")
    assert unknown.returncode == 1
    assert b"unknown service nobody; there are kafka, postgres, " in unknown.stderr
    assert b"api.running" in weir(shared_home, "logs", "api").stdout
    last = weir(shared_home, "logs", "-n", "1").stdout.splitlines()
    assert {line.split(b" | ")[0].strip() for line in last} >= {b"kafka", b"postgres", b"api", b"worker-links"}


def test_a_second_weir_on_the_same_home_says_who_has_it(whole: Running, shared_home: dict[str, str]) -> None:
    second = weir(shared_home, "up")
    assert second.returncode == 1
    [line] = second.stderr.decode().splitlines()
    assert str(whole.process.pid) in line


def test_a_server_that_dies_is_started_again_with_a_log_line(whole: Running, shared_home: dict[str, str]) -> None:
    before = services(shared_home)
    for name in ("kafka", "postgres"):
        os.kill(before[name]["pid"], signal.SIGKILL)
        whole.wait_for_error_line(b"child=" + name.encode() + b" exit_code=-9")
    until(lambda: state(shared_home, "kafka", "postgres") == {"running"})
    after = services(shared_home)
    assert all(after[name]["pid"] != before[name]["pid"] for name in ("kafka", "postgres"))


def test_ctrl_c_ends_all_of_it_and_leaves_nothing(whole: Running, shared_home: dict[str, str]) -> None:
    names = ("kafka", "postgres", "worker-links", "link-store", "api", "feed")
    until(lambda: state(shared_home, *names) <= {"running"})
    children = descendants(whole)
    assert len(children) >= len(names)
    assert whole.interrupt() == 0
    assert all(gone(pid) for pid in children)
    assert started_for(Path(shared_home["WEIR_HOME"])) == []
    assert state(shared_home, *names) == {"stopped"}
    check = weir(shared_home, "status", "--check")
    assert (check.returncode, check.stderr.startswith(b"weir: kafka is stopped, postgres is stopped")) == (1, True)
    left = {path.stem for path in Path(shared_home["WEIR_HOME"], "run").glob("*.json")}
    assert left <= {"feed-server"}  # that one is not of this weir
    told = [line for line in whole.err if b"weir.stop" in line]
    assert [b"weir.stopping" in told[0], b"weir.stopped" in told[-1]] == [True, True]
    assert whole.err[-1] == told[-1]


def test_a_terminal_shows_a_line_for_each_and_the_logs_are_in_files(
    environ: dict[str, str], config: Config, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    process = start(environ, ("up", "--only", "api"), stdin=slave, stdout=slave, stderr=slave)
    seen = b""
    while not re.search("api .*● running.*http://127.0.0.1".encode(), seen):
        seen += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    while b"weir: stopping" not in seen:
        seen += os.read(master, 4096)
    assert process.wait(PATIENCE_S) == 0
    assert b"child.ready" not in seen
    assert b"api.running" in log_file(config.home / "logs", "api").read_bytes()
    assert b"weir.stopped" in log_file(config.home / "logs", "weir").read_bytes()


def test_at_a_terminal_a_folder_that_others_use_is_left_as_it_is(tmp_path: Path, terminal: tuple[int, int]) -> None:
    _, slave = terminal
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "index.html").touch()
    process = start({**os.environ, "WEIR_HOME": str(folder)}, ("up",), stdin=slave, stdout=slave, stderr=slave)
    assert process.wait(PATIENCE_S) == 1
    assert (folder.stat().st_mode & 0o777, [path.name for path in folder.iterdir()]) == (0o755, ["index.html"])


@pytest.fixture
def shadowing(tmp_path: Path) -> Path:
    """A folder with modules named like weir's, like its libraries' and like the standard library's, which cannot be
    imported, and leave a file `imported` beside it where somebody tries.
    """
    project = tmp_path / "project"
    for folder in ("weir", "schemas"):
        (project / folder).mkdir(parents=True)
    for name in ("weir/__init__.py", "schemas/__init__.py", "redis.py", "faust.py", "json.py"):
        project.joinpath(name).write_text(f"open('{tmp_path}/imported', 'a').write('{name} ')\nraise ImportError\n")
    return project


def test_every_service_runs_on_servers_elsewhere_and_comes_back_and_imports_nothing_from_the_current_folder(
    environ: dict[str, str], config: Config, tree: Tree, shadowing: Path
) -> None:
    names = ("worker-links", "link-store", "api")
    with started(environ, "up", cwd=shadowing, anew=True) as running:
        wait_until_up(running)
        tree(running)
        assert state(environ, "kafka", "postgres", *names) == {"running"}
        before = services(environ)
        assert before["api"]["address"] == f"http://127.0.0.1:{config.api.port}"
        for name in names:
            os.kill(before[name]["pid"], signal.SIGKILL)
            running.wait_for_error_line(b"child=" + name.encode() + b" exit_code=-9")
        until(lambda: state(environ, *names) == {"running"})
        assert all(services(environ)[name]["pid"] != before[name]["pid"] for name in names)
        tree(running)
        os.kill(services(environ)["link-store"]["pid"], signal.SIGSTOP)  # one that cannot hear that it should end
        assert running.interrupt() == 0
    assert state(environ, *names) == {"stopped"}
    assert not (shadowing.parent / "imported").exists()


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


def test_a_port_that_is_taken_is_one_line_and_nothing_is_left(home: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = weir(home | {"WEIR_POSTGRES_PORT": str(port)}, "up", "--only", "kafka,postgres")
    assert failed.returncode == 1
    assert failed.stderr.decode().splitlines()[-1].startswith(f"weir: cannot listen on port {port} ")
    assert b"Traceback" not in failed.stderr
    assert state(home, "kafka", "postgres") == {"stopped"}


def test_all_ports_that_are_taken_are_named_before_anything_is_started(home: dict[str, str]) -> None:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [str(server.getsockname()[1]) for server in taken]
    variables = ("WEIR_KAFKA_CONTROLLER_PORT", "WEIR_API_PORT", "WEIR_METRICS_PORT")
    failed = weir(home | dict(zip(variables, ports, strict=True)), "up")
    for server in taken:
        server.close()
    assert failed.returncode == 1
    [line] = failed.stderr.decode().splitlines()
    for told in (*ports, *variables):
        assert told in line
    assert not Path(home["WEIR_HOME"], "kafka").exists()


def test_settings_that_a_service_refuses_are_told_before_anything_is_started(home: dict[str, str]) -> None:
    failed = weir(home | {"WEIR_HOST": "0.0.0.0"}, "up")
    assert failed.returncode == 1
    [line] = failed.stderr.decode().splitlines()
    assert "WEIR_BROADCAST_PASSWORD" in line
    assert not Path(home["WEIR_HOME"]).exists()


def test_a_server_elsewhere_that_is_slow_is_waited_for_and_that_is_said(home: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow:
        address = f"127.0.0.1:{slow.getsockname()[1]}"
        environ = home | {"WEIR_KAFKA": address, "WEIR_POSTGRES": f"postgresql://{address}/x"}
        with started(environ, "up", "--only", "link-store") as running:
            running.wait_for_error_line(b"no Kafka answers at " + address.encode())  # and is asked again
            assert running.interrupt() == 0


@pytest.mark.parametrize(("wrong", "told"), [("sslmode=on", "sslmode"), ("user=nobody&password=x", "weir's login")])
def test_an_address_of_postgres_that_cannot_be_right_is_told_at_once(config: Config, wrong: str, told: str) -> None:
    async def start() -> None:
        async with up(config.replace(WEIR_POSTGRES=f"{config.postgres.url}&{wrong}"), only="link-store"):
            raise AssertionError("started")

    with pytest.raises(StartError, match=f"Postgres at 127.0.0.1:.* {told}"):
        asyncio.run(start())


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
