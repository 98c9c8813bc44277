"""Commands without their server, or with a slow one: each says so at once, in one line, with what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import started, weir
from weir.infra.ports import free_ports


@pytest.fixture
def nothing_runs(tmp_path: Path) -> dict[str, str]:
    """An environment with the embedded servers, which are not started."""
    kafka, postgres = free_ports(2)
    return {
        "WEIR_HOME": str(tmp_path / "home"),
        "WEIR_KAFKA_PORT": str(kafka),
        "WEIR_POSTGRES_PORT": str(postgres),
        "PATH": "/usr/bin:/bin",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "tail relations", "produce relations", "ledger", "dead-letters list", "trim communications --yes",
        "reset links --yes --yes", "topics --create",
    ],
)  # fmt: skip
def test_without_kafka_it_is_said_where_it_should_be(nothing_runs: dict[str, str], arguments: str) -> None:
    done = weir(nothing_runs, *arguments.split())
    line = f"weir: no Kafka answers at 127.0.0.1:{nothing_runs['WEIR_KAFKA_PORT']} (is `weir up` running?)\n"
    assert (done.returncode, done.stderr.decode()) == (1, line)


def test_topics_are_listed_without_kafka(nothing_runs: dict[str, str]) -> None:
    done = weir(nothing_runs, "topics")
    where = f"127.0.0.1:{nothing_runs['WEIR_KAFKA_PORT']}"
    assert done.returncode == 0
    assert done.stderr.decode() == (
        f"weir: no Kafka answers at {where} (is `weir up` running?); whether the topics exist is not known\n"
    )
    assert b"relations" in done.stdout


@pytest.mark.parametrize("arguments", ["links", "tenants list", "migrate", "tenants set-plan 1 free"])
def test_without_postgres_it_is_said_where_it_should_be(nothing_runs: dict[str, str], arguments: str) -> None:
    done = weir(nothing_runs, *arguments.split())
    line = f"weir: no Postgres answers at 127.0.0.1:{nothing_runs['WEIR_POSTGRES_PORT']} (is `weir up` running?)\n"
    assert (done.returncode, done.stderr.decode()) == (1, line)


@pytest.fixture
def slow(nothing_runs: dict[str, str]) -> Iterator[dict[str, str]]:
    """The same with servers that take connections, and never answer."""
    with (
        socket.create_server(("127.0.0.1", int(nothing_runs["WEIR_KAFKA_PORT"]))),
        socket.create_server(("127.0.0.1", int(nothing_runs["WEIR_POSTGRES_PORT"]))),
    ):
        yield nothing_runs


@pytest.mark.parametrize(
    ("arguments", "server", "port"),
    [
        ("ledger", "Kafka", "WEIR_KAFKA_PORT"),
        ("tail relations", "Kafka", "WEIR_KAFKA_PORT"),
        ("links", "Postgres", "WEIR_POSTGRES_PORT"),
        ("tenants list", "Postgres", "WEIR_POSTGRES_PORT"),
    ],
)
def test_a_server_that_is_slow_is_waited_for_and_that_is_said(
    slow: dict[str, str], arguments: str, server: str, port: str
) -> None:
    with started(slow, *arguments.split()) as running:
        running.wait_for_error_line(f"weir: waiting for {server} at 127.0.0.1:{slow[port]}".encode())
