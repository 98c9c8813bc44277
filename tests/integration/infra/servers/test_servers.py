"""The embedded servers, really started, and everything that can keep them from starting."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.wait import PATIENCE_S
from weir.infra.config import Config, load
from weir.infra.errors import (
    DiskFullError,
    DownloadError,
    ForeignDataError,
    PortTakenError,
    ServerFailedError,
    StartError,
)
from weir.infra.kafka import client as clients
from weir.infra.ports import free_ports
from weir.infra.servers import jars
from weir.infra.servers.disk_space import check_space
from weir.infra.servers.kafka import KafkaServer
from weir.infra.servers.postgres import PostgresServer, forget_dead_pid
from weir.infra.servers.server import Server, last_words, running
from weir.schemas.topic import MAX_DEAD_LETTER


@pytest.fixture
def own(tmp_path: Path) -> Config:
    """The configuration of servers that nobody has started."""
    kafka, controller, postgres = free_ports(3)
    return load(
        {
            "WEIR_HOME": str(tmp_path),
            "WEIR_KAFKA_PORT": str(kafka),
            "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
            "WEIR_POSTGRES_PORT": str(postgres),
        }
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def one_line(error: StartError) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_each_test_has_topics_of_its_own(config: Config) -> None:
    clients.ensure_topics(config)
    assert config.topic("link-counts") in clients.admin(config).list_topics(timeout=PATIENCE_S).topics


def test_each_test_has_tables_of_its_own(config: Config, schema: str) -> None:
    with psycopg.connect(config.dsn) as connection:
        connection.execute("CREATE TABLE t (x int)")
        found = connection.execute("SELECT table_schema FROM information_schema.tables WHERE table_name = 't'")
        assert found.fetchall() == [(schema,)]


def test_a_topic_takes_a_message_of_its_own_limit(config: Config) -> None:
    clients.ensure_topics(config)
    delivered: list[object] = []
    producer = clients.producer(config, **{"compression.type": "none"})
    whole = bytes(MAX_DEAD_LETTER - 1024)
    producer.produce(config.topic("dead-letters"), whole, on_delivery=lambda error, _message: delivered.append(error))
    assert producer.flush(30) == 0
    assert delivered == [None]


@pytest.mark.long
def test_kafkas_data_survives_a_restart_on_another_port(own: Config, tmp_path: Path) -> None:
    with running(KafkaServer(own)):
        made = clients.ensure_topics(own)
    kafka, controller = free_ports(2)
    environ = {"WEIR_KAFKA_PORT": str(kafka), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)}
    moved = load({"WEIR_HOME": str(tmp_path)} | environ)
    with running(KafkaServer(moved)):
        assert set(made) <= set(clients.admin(moved).list_topics(timeout=PATIENCE_S).topics)


def test_postgress_data_survives_a_restart(own: Config) -> None:
    with running(PostgresServer(own)), psycopg.connect(own.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    with running(PostgresServer(own)), psycopg.connect(own.dsn) as connection:
        assert connection.execute("SELECT x FROM kept").fetchall() == [(42,)]


@pytest.mark.long
def test_a_home_may_be_called_anything(own: Config, tmp_path: Path) -> None:
    home = tmp_path / ("a, b = ü:\\" + "long" * 30)
    own = load({"WEIR_HOME": str(home), "WEIR_POSTGRES_PORT": str(own.postgres.port)} | ports(own))
    with running(PostgresServer(own)), running(KafkaServer(own)):
        assert clients.ensure_topics(own)


def ports(config: Config) -> dict[str, str]:
    return {
        "WEIR_KAFKA_PORT": str(config.kafka.port),
        "WEIR_KAFKA_CONTROLLER_PORT": str(config.kafka.controller_port),
    }


@pytest.mark.parametrize(
    ("server", "variable"),
    [
        (KafkaServer, "WEIR_KAFKA_PORT"),
        (KafkaServer, "WEIR_KAFKA_CONTROLLER_PORT"),
        (PostgresServer, "WEIR_POSTGRES_PORT"),
    ],
)
def test_a_port_that_is_taken_is_named_with_the_variable_that_moves_it(
    server: type[KafkaServer] | type[PostgresServer], variable: str, own: Config, taken: int
) -> None:
    environ = {"WEIR_HOME": str(own.home), "WEIR_POSTGRES_PORT": str(own.postgres.port)} | ports(own)
    with pytest.raises(PortTakenError) as caught:
        server(load(environ | {variable: str(taken)})).prepare()
    assert str(taken) in one_line(caught.value)
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("server", "folder", "marker", "theirs"),
    [
        (KafkaServer, "kafka", "VERSION", "3.9.1"),
        (KafkaServer, "kafka", None, "unknown"),
        (PostgresServer, "postgres", "PG_VERSION", "16"),
        (PostgresServer, "postgres", None, "not PostgreSQL"),
    ],
)
def test_data_of_another_version_is_refused_and_left_alone(
    server: type[KafkaServer] | type[PostgresServer], folder: str, marker: str | None, theirs: str, own: Config
) -> None:
    data = own.home / folder
    data.mkdir()
    (data / "precious").touch()
    if marker:
        (data / marker).write_text(theirs + "\n")
    with pytest.raises(ForeignDataError) as caught:
        server(own).prepare()
    assert theirs in one_line(caught.value)
    assert str(data) in str(caught.value)
    assert (data / "precious").exists()


def test_no_room_is_told_before_a_server_starts(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError) as caught:
        check_space(tmp_path, 1 << 60, "Kafka")
    assert str(tmp_path) in one_line(caught.value)


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (b"java.io.IOException: No space left on device\nHalting\n", DiskFullError),
        (b"FATAL: could not bind: Address already in use\n", PortTakenError),
        (b"something else\n", ServerFailedError),
        (b"", ServerFailedError),
    ],
)
def test_a_servers_last_words_say_why_it_failed(log: bytes, error: type[StartError], own: Config) -> None:
    server: Server = KafkaServer(own)
    server.log.parent.mkdir()
    server.log.write_bytes(b"No space left on device\n" + b"an earlier run\n" * 1000 + log)
    failed = last_words(server, "ended with code 1")
    assert type(failed) is error
    assert "ended with code 1" in one_line(failed)


def test_a_server_that_ends_at_once_says_where_its_log_is(own: Config) -> None:
    with running(PostgresServer(own)):
        pass
    (own.home / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServerFailedError) as caught, running(PostgresServer(own)):
        pass
    assert str(own.home / "logs" / "postgres.log") in one_line(caught.value)


def test_without_a_network_the_first_download_says_so_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")  # nobody listens there
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError) as caught:
        jars.class_path()
    assert "network" in one_line(caught.value)
    assert [path.name for path in (tmp_path / "weir").iterdir()] == [f"kafka-{jars.KAFKA_VERSION}.lock"]


def test_a_jar_that_is_cut_short_is_not_taken_for_whole(kafka: str, tmp_path: Path) -> None:
    paths = jars.class_path()
    shutil.copytree(paths[0].parent, tmp_path / "jars")
    assert jars.whole(tmp_path / "jars", jars.locked())
    os.truncate(tmp_path / "jars" / paths[-1].name, 100)
    assert not jars.whole(tmp_path / "jars", jars.locked())


@pytest.mark.parametrize("sign", ["", "-"])  # the second is as single-user mode writes it
def test_a_process_id_that_another_program_has_by_now_does_not_keep_postgres_from_starting(
    sign: str, tmp_path: Path
) -> None:
    file = tmp_path / "postmaster.pid"
    file.write_text(f"{sign}{os.getpid()}\n/data\n")
    forget_dead_pid(tmp_path)
    assert not file.exists()
    file.write_text(f"{sign}4194304\n/data\n")  # more than any process's: the one that wrote it is gone
    forget_dead_pid(tmp_path)
    assert file.exists()


def test_the_lock_names_every_jar_once() -> None:
    locked = jars.locked()
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked)
    assert {jar.version for jar in locked if jar.group == "org.apache.kafka"} == {jars.KAFKA_VERSION}
