"""`weir send` against a real listener and a real Kafka."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from support.command import Running, started, weir
from support.processes import COMMAND
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka.topic_reader import TopicReader
from weir.infra.runtime.status import read_all
from weir.schemas.broadcast import partition_of
from weir.schemas.topics import BROADCAST


@pytest.fixture
def listener(environ: dict[str, str], config: Config) -> Iterator[Running]:
    """A listener that takes messages."""
    with started(environ, "run", "listener") as running:
        running.wait_for(lambda: any(s.pid == running.process.pid and s.state == "running" for s in read_all(config)))
        yield running


def messages(config: Config) -> list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    """Partition, key, value and headers of every record."""
    with TopicReader(config, BROADCAST) as reader:
        return [(r.partition, r.key, r.value, r.headers) for r in reader.to_the_end()]


def test_every_line_is_a_message_byte_for_byte(environ: dict[str, str], config: Config, listener: Running) -> None:
    lines = b"one\n\n  \xc3\xa4 \r\n\xff\x00\nno end"
    done = weir(environ, "send", "--ack", stdin=lines)
    assert (done.stdout, done.stderr, done.returncode) == (b"acknowledged 5 of 5\n", b"", 0)
    assert messages(config) == [
        (0, None, b"one", []),
        (0, None, b"", []),
        (0, None, b"  \xc3\xa4 \r", []),
        (0, None, b"\xff\x00", [("weir.frame", b"binary")]),
        (0, None, b"no end", []),
    ]


def test_without_acks_everything_arrives_all_the_same(
    environ: dict[str, str], config: Config, listener: Running
) -> None:
    lines = b"".join(b"%d\n" % number for number in range(5000))
    done = weir(environ, "send", stdin=lines)
    assert (done.stdout, done.stderr, done.returncode) == (b"sent 5000\n", b"", 0)
    assert listener.interrupt() == 0  # which writes what it has read
    assert [value for _, _, value, _ in messages(config)] == lines.split()


def test_a_channel_and_an_address_of_ones_own(environ: dict[str, str], config: Config, listener: Running) -> None:
    address = f"ws://user:pwd@127.0.0.1:{environ['WEIR_LISTENER_PORT']}/ws/manager"
    no_settings = {name: value for name, value in environ.items() if name != "WEIR_LISTENER_PORT"}
    done = weir(no_settings, "send", address, "--channel", "weather", "--ack", stdin=b"sun\n")
    assert (done.stdout, done.returncode) == (b"acknowledged 1 of 1\n", 0)
    partition = partition_of("weather", configuration.load(environ).kafka.partitions)
    assert messages(config) == [(partition, b"weather", b"sun", [])]


@pytest.mark.parametrize("password", [["--password", "wrong"], ["--user", "", "--password", ""]])
def test_who_may_not_send_is_told(environ: dict[str, str], listener: Running, password: list[str]) -> None:
    done = weir(environ, "send", *password, stdin=b"hi\n")
    assert (done.stdout, done.returncode) == (b"", 1)
    address = f"ws://127.0.0.1:{environ['WEIR_LISTENER_PORT']}/websocket"
    assert done.stderr == f"weir: {address} refused with HTTP 401: user or password is wrong\n".encode()


def test_what_kafka_has_is_said_though_the_rest_is_refused(environ: dict[str, str], listener: Running) -> None:
    """A message over the limit ends the connection (1009): those before it are acknowledged or in doubt."""
    done = weir(environ, "send", "--ack", stdin=b"small\n" + b"x" * 300_000 + b"\n")
    assert done.returncode == 1
    assert done.stdout in (b"acknowledged 0 of 2\n", b"acknowledged 1 of 2\n")
    assert done.stderr.startswith(b"weir: the connection was closed with code 1009: ")
    assert done.stderr.count(b"\n") == 1


def test_nobody_there_is_one_line(environ: dict[str, str]) -> None:
    done = weir(environ, "send", stdin=b"hi\n")
    address = f"ws://127.0.0.1:{environ['WEIR_LISTENER_PORT']}/websocket"
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr == f"weir: {address} cannot be reached: nobody listens there\n".encode()


@pytest.mark.parametrize("url", ["http://h", "h:1", "ws://"])
def test_what_is_no_address_is_refused(environ: dict[str, str], url: str) -> None:
    done = weir(environ, "send", url, stdin=b"hi\n")
    assert (done.stdout, done.returncode) == (b"", 1)
    assert f"weir: {url!r} is not a valid address".encode() in done.stderr


def test_ctrl_c_says_how_far_it_came(environ: dict[str, str], config: Config, listener: Running) -> None:
    with started(environ, "send", "--ack") as running:
        pipe = running.process.stdin
        assert pipe is not None
        pipe.write(b"one\ntwo\n")
        pipe.flush()
        running.wait_for(lambda: len(messages(config)) == 2)
        assert running.interrupt() == 130
    assert b"".join(running.out) == b"acknowledged 2 of 2\n"
    assert running.err == []


def test_a_listener_that_goes_is_told_with_what_is_in_doubt(
    environ: dict[str, str], config: Config, listener: Running
) -> None:
    with started(environ, "send", "--ack") as running:
        pipe = running.process.stdin
        assert pipe is not None
        pipe.write(b"one\n")
        pipe.flush()
        running.wait_for(lambda: len(messages(config)) == 1)
        assert listener.interrupt() == 0
        assert running.end() == 1
    assert b"".join(running.out) == b"acknowledged 1 of 1\n"
    assert b"".join(running.err).startswith(b"weir: the connection was closed with code 1001: ")


def test_a_pipe_of_lines_is_sent_as_they_come(environ: dict[str, str], config: Config, listener: Running) -> None:
    """The first line is not held back until the second comes, or the end."""
    with subprocess.Popen([*COMMAND, "send"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        for number in range(1, 4):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            listener.wait_for(lambda wanted=number: len(messages(config)) == wanted)  # type: ignore[misc]
        out, _ = process.communicate()
    assert out == b"sent 3\n"
