"""`weir subscribe`, and `weir run broadcast` behind it, against a real Kafka."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support.command import Running, json_lines, started, weir
from weir.infra.config import Config
from weir.infra.runtime.status import ServiceStatus, read_all


@contextmanager
def running(environ: dict[str, str], config: Config, *service: str) -> Iterator[Running]:
    """A service that says of itself that it runs."""
    with started(environ, "run", *service) as process:
        process.wait_for(lambda: any(s.pid == process.process.pid and s.state == "running" for s in read_all(config)))
        yield process


@pytest.fixture
def broadcast(environ: dict[str, str], config: Config) -> Iterator[Running]:
    with running(environ, config, "broadcast") as process:
        yield process


def send(environ: dict[str, str], *lines: bytes, channel: str | None = None) -> None:
    options = ["--channel", channel] if channel else []
    done = weir(environ, "send", "--ack", *options, stdin=b"".join(line + b"\n" for line in lines))
    assert done.stdout == f"acknowledged {len(lines)} of {len(lines)}\n".encode(), done


def out(environ: dict[str, str], *options: str) -> bytes:
    """Returns the output of a subscriber that ends by itself."""
    done = weir(environ, "subscribe", *options)
    assert done.returncode == 0, done
    return done.stdout


def test_a_subscriber_gets_what_is_sent_byte_for_byte(environ: dict[str, str], broadcast: Running) -> None:
    send(environ, b"before")
    lines = (b"\xc3\xa4\t", b"", b"\xff\x00", b'{"a": 1}')
    with started(environ, "subscribe", "--count", "4") as subscriber:
        subscriber.wait_for_error_line(b"weir: connected, at ")
        send(environ, *lines)
        assert subscriber.end() == 0
    assert b"".join(subscriber.out) == b"\n".join(lines) + b"\n"


def test_channels(environ: dict[str, str], broadcast: Running) -> None:
    send(environ, b"to all")
    send(environ, b"sun", channel="weather")
    send(environ, b"rain", channel="weather")
    assert out(environ, "--channel", "weather", "--last", "1", "--count", "1") == b"rain\n"
    assert sorted(out(environ, "--last", "3", "--count", "3").splitlines()) == [b"rain", b"sun", b"to all"]


def test_json_says_where_a_message_is_and_after_goes_on_behind_it(environ: dict[str, str], broadcast: Running) -> None:
    send(environ, b"one", b"two", b"\xff", channel="c")
    envelopes = json_lines(out(environ, "--channel", "c", "--last", "3", "--count", "3", "--json"))
    assert [envelope["channel"] for envelope in envelopes] == ["c"] * 3
    assert [envelope.get("data", envelope.get("base64")) for envelope in envelopes] == ["one", "two", "/w=="]
    position = envelopes[1]["position"]
    assert out(environ, "--channel", "c", "--after", position, "--count", "1") == b"\xff\n"


def test_every_address_serves_what_the_reference_says(environ: dict[str, str], broadcast: Running) -> None:
    send(environ, b"hi")
    listener, broadcaster, both = (environ[f"WEIR_{name}_PORT"] for name in ("LISTENER", "BROADCASTER", "BROADCAST"))
    places = [
        f"{broadcaster}/websocket",
        *(f"{port}/ws/{name}" for port in (listener, broadcaster, both) for name in ("broadcast", "broadcaster")),
    ]
    for place in places:
        assert out(environ, f"ws://127.0.0.1:{place}?last=1", "--count", "1") == b"hi\n"
    for place in (f"{listener}/websocket", f"{listener}/ws/manager", f"{both}/ws/manager"):
        done = weir(environ, "send", "--ack", f"ws://127.0.0.1:{place}", stdin=b"hi\n")
        assert done.stdout == b"acknowledged 1 of 1\n"


def test_it_lives_through_a_killed_service_and_misses_nothing(environ: dict[str, str], config: Config) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(running(environ, config, "broadcast"))
        subscriber = stack.enter_context(started(environ, "subscribe", "--count", "300"))
        subscriber.wait_for_error_line(b"weir: connected, at ")
        send(environ, *(b"%d" % number for number in range(100)))
        first.process.send_signal(signal.SIGKILL)
        first.end()
        with running(environ, config, "broadcast") as second:
            send(environ, *(b"%d" % number for number in range(100, 200)))
            subscriber.wait_for_error_line(b"nothing was missed")
            assert second.interrupt() == 0
        stack.enter_context(running(environ, config, "broadcast"))
        send(environ, *(b"%d" % number for number in range(200, 300)))
        assert subscriber.end() == 0
    assert b"".join(subscriber.out).split() == [b"%d" % number for number in range(300)]
    said = b"".join(subscriber.err)
    assert b"weir: the connection broke; again in " in said
    assert b"weir: the connection was closed with code 1001: position=" in said
    assert b"not recovered" not in said


def test_what_was_trimmed_meanwhile_is_said_to_be_gone(
    environ: dict[str, str], config: Config, broadcast: Running
) -> None:
    send(environ, b"one", b"two", b"three")
    assert weir(environ, "trim", "broadcast", "--keep", "1", "--yes").returncode == 0
    broadcast.interrupt()
    with running(environ, config, "broadcast"):  # one that has them in memory would still have them
        done = weir(environ, "subscribe", "--after", "0-0", "--count", "1")
    assert done.stdout == b"three\n"
    assert done.stderr.startswith(b"weir: not recovered: messages are gone that were not received; on from 0-2")


def test_ctrl_c_ends_it_and_says_where_to_go_on(environ: dict[str, str], broadcast: Running) -> None:
    with started(environ, "subscribe") as subscriber:
        subscriber.wait_for_error_line(b"weir: connected, at ")
        send(environ, b"one")
        subscriber.wait_for(lambda: subscriber.out == [b"one\n"])
        assert subscriber.interrupt() == 130
    option, position, *_ = subscriber.err[-1].removeprefix(b"weir: ").split()
    send(environ, b"two")
    assert out(environ, option.decode(), position.decode(), "--count", "1") == b"two\n"


def test_the_two_halves_run_apart(environ: dict[str, str], config: Config) -> None:
    with running(environ, config, "listener"), running(environ, config, "broadcaster"):
        send(environ, b"hi")
        assert out(environ, "--last", "1", "--count", "1") == b"hi\n"
        done = weir(environ, "subscribe", f"ws://127.0.0.1:{environ['WEIR_LISTENER_PORT']}/ws/broadcast")
        assert b"refused with HTTP 404: unknown path" in done.stderr


def test_the_status_says_where_everything_is(environ: dict[str, str], config: Config, broadcast: Running) -> None:
    send(environ, b"hi")
    with started(environ, "subscribe") as subscriber:
        subscriber.wait_for_error_line(b"weir: connected, at ")
        subscriber.wait_for(lambda: status(config).detail.get("subscribers") == 1)
        found = status(config)
    assert found.address == f"ws://127.0.0.1:{environ['WEIR_BROADCAST_PORT']}"
    assert found.detail["listener"] == f"ws://127.0.0.1:{environ['WEIR_LISTENER_PORT']}"
    assert found.detail["broadcaster"] == f"ws://127.0.0.1:{environ['WEIR_BROADCASTER_PORT']}"
    assert (found.detail["taken"], found.detail["unacknowledged"]) == (1, 0)


def status(config: Config) -> ServiceStatus:
    [found] = [status for status in read_all(config) if status.name.startswith("broadcast-")]
    return found


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "cannot be reached: nobody listens there"),
        (["--after", "nope"], "`after` is not a position"),
        (["--after", "0-1", "--last", "1"], "--after and --last cannot be used together"),
        (["--channel", ""], "channel"),
        (["http://h"], "'http://h' is not a valid address"),
    ],
)
def test_what_cannot_be_is_one_line(environ: dict[str, str], arguments: list[str], error: str) -> None:
    done = weir(environ, "subscribe", *arguments)
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr.startswith(b"weir: ")
    assert error.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("service", [["broadcast"], ["listener"]])
def test_the_known_password_is_refused_where_others_can_come(environ: dict[str, str], service: list[str]) -> None:
    done = weir(environ | {"WEIR_HOST": "0.0.0.0"}, "run", *service)
    assert done.returncode == 1
    assert b"WEIR_BROADCAST_PASSWORD" in done.stderr


def test_up_runs_it_alone_without_postgres(environ: dict[str, str]) -> None:
    nowhere = {"WEIR_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
    with started(environ | nowhere, "up", "--only", "broadcast") as up:
        up.wait_for(lambda: any(b"Ctrl-C ends everything" in line for line in up.out))
        send(environ, b"hi")
        assert out(environ, "--last", "1", "--count", "1") == b"hi\n"
        assert up.interrupt() == 0
