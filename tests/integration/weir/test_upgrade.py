"""A home that an earlier weir made goes on with this one: no count, row or total is lost, and none is made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from support.command import started, watched, weir
from support.wait import until
from weir.infra.ports import free_ports

ROOT = Path(__file__).parents[3]
#: The last commit before weir's packages had one name at the top, `weir`.
BEFORE = "c5a3bbacb00eaccb59dba04f1fd731a89c762e2a"
OLD = [sys.executable, "-P", "-m", "infra.cli.main"]
SERVICES = "kafka,postgres,worker-links,link-store,worker-monitoring-ids,worker-monitoring,monitoring"
CALL = b'{"source":"shop-1","destination":"billing-1"}\n'
RELATIONS = b'[{"parent":"shop","child":"shop-1"},{"parent":"billing","child":"billing-1"}]'
#: One window for all calls: they have one timestamp.
AT = "2026-11-30T12:00:00Z"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a weir with embedded servers."""
    names = ("KAFKA", "KAFKA_CONTROLLER", "POSTGRES", "API", "MONITORING")
    ports = {f"WEIR_{name}_PORT": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return inherited | ports | {"WEIR_HOME": str(tmp_path / "home"), "WEIR_PARTITIONS": "2"}


@pytest.fixture
def before(tmp_path: Path, home: dict[str, str]) -> dict[str, str]:
    """The environment in which Python finds the earlier weir, taken from this repository's history."""
    folder = tmp_path / "before"
    folder.mkdir()
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return home | {"PYTHONPATH": str(folder)}


def old(environ: dict[str, str], *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run([*OLD, *arguments], env=environ, input=stdin, capture_output=True, timeout=120, check=True)
    return done.stdout


def event(number: int) -> bytes:
    return json.dumps({
        "client_id": "c", "event_id": f"e-{number}", "event_timestamp": 1_769_860_800, "event_type": "CUMULATIVE",
        "event_key": "requests", "event_value": 1,
    }).encode()  # fmt: skip


def post(environ: dict[str, str], *events: bytes) -> list[str]:
    """Returns the status of each event."""
    url = f"http://127.0.0.1:{environ['WEIR_MONITORING_PORT']}/events"
    body = b"[" + b",".join(events) + b"]"
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        return [one["status"] for one in json.load(answer)["events"]]


def takes_events(environ: dict[str, str]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environ['WEIR_MONITORING_PORT']}/health") as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as e:
        e.close()
        return False
    except urllib.error.URLError:
        return False


def total(environ: dict[str, str]) -> int:
    """The client's total; 0 while the service starts or knows nothing of it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environ['WEIR_MONITORING_PORT']}/clients/c") as answer:
            found: int = json.load(answer)["data"]["requests"]["event_value"]
            return found
    except urllib.error.HTTPError as e:
        e.close()
        return 0
    except urllib.error.URLError:
        return 0


def stored(status: bytes) -> list[tuple[str, str, int]]:
    """The window's counts in Postgres, whose address is in the status."""
    address = json.loads(status)["postgres"]
    with psycopg.connect(address) as connection:
        return connection.execute("SELECT source, destination, count::bigint FROM link_counts").fetchall()


@pytest.mark.long
def test_what_an_earlier_weir_counted_is_counted_on(home: dict[str, str], before: dict[str, str]) -> None:
    pipe = subprocess.PIPE
    command = [*OLD, "up", "--only", SERVICES]
    # Its services import from the current folder first.
    process = subprocess.Popen(command, env=before, cwd=before["PYTHONPATH"], stdin=pipe, stdout=pipe, stderr=pipe)
    with watched(process) as first:
        first.wait_for_error_line(b"weir.up")
        old(before, "produce", "relations", stdin=RELATIONS)
        assert old(before, "produce", "communications", "--timestamp", AT, stdin=CALL * 5).startswith(b"accepted 5")
        until(lambda: takes_events(home))
        assert post(home, event(1), event(2)) == ["accepted", "accepted"]
        until(lambda: stored(old(before, "status", "--json")) == [("shop", "billing", 5)])
        until(lambda: total(home) == 2)
        assert first.interrupt() == 0
    with started(home, "up", "--only", SERVICES) as now:
        now.wait_for_error_line(b"weir.up")
        assert weir(home, "produce", "communications", "--timestamp", AT, stdin=CALL * 3).stdout.startswith(
            b"accepted 3"
        )
        until(lambda: total(home) == 2)
        assert post(home, event(2), event(3)) == ["accepted", "accepted"]  # this service does not remember e-2
        until(lambda: stored(weir(home, "status", "--json").stdout) == [("shop", "billing", 8)])
        until(lambda: total(home) == 3)
        assert now.interrupt() == 0
