"""`weir run listener`, `broadcaster`, `broadcast` as processes: told apart, and ended in time whatever Kafka does."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from contextlib import ExitStack

import aiohttp
import pytest

from support.broadcast.broadcast_records import AUTH
from support.broadcast.broadcast_subscribers import Sender
from support.command import Running, started, weir
from support.servers.own_servers import OwnServer
from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.ports import free_ports
from weir.infra.runtime.status import ServiceStatus, read_all
from weir.schemas.topics import BROADCAST

SERVICES = ("listener", "broadcaster", "broadcast")


def said(config: Config, process: Running) -> ServiceStatus | None:
    """Returns the last status that the process wrote."""
    return next((status for status in read_all(config) if status.pid == process.process.pid), None)


def is_(process: Running, config: Config, state: str) -> None:
    """Returns once that is what it says of itself."""
    process.wait_for(lambda: (found := said(config, process)) is not None and found.state == state)


def services(environ: dict[str, str]) -> dict[str, dict[str, object]]:
    """Returns the services of `weir status`, by name."""
    done = weir(environ, "status", "--json")
    found: dict[str, dict[str, object]] = json.loads(done.stdout)["services"]
    return found


def test_several_on_one_machine_are_told_apart(environ: dict[str, str], config: Config) -> None:
    one, other, third = free_ports(3)
    with ExitStack() as stack:
        for service, variable, name, port in (
            ("listener", "WEIR_LISTENER_PORT", None, one),
            ("listener", "WEIR_LISTENER_PORT", None, other),
            ("broadcaster", "WEIR_BROADCASTER_PORT", "spare", third),
        ):
            options = ["--name", name] if name else []
            process = stack.enter_context(started(environ | {variable: str(port)}, "run", service, *options))
            is_(process, config, "running")
        found = services(environ)
    for name, port in ((f"listener-{one}", one), (f"listener-{other}", other), ("spare", third)):
        assert (found[name]["state"], found[name]["address"]) == ("running", f"ws://127.0.0.1:{port}")
    assert len({found[name]["pid"] for name in found if name.startswith(("listener-", "spare"))}) == 3


def test_one_that_ends_in_order_takes_its_own_status_alone(environ: dict[str, str], config: Config) -> None:
    one, other = free_ports(2)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(started(environ | {"WEIR_BROADCASTER_PORT": str(port)}, "run", "broadcaster"))
            for port in (one, other)
        )
        is_(first, config, "running")
        is_(second, config, "running")
        assert first.interrupt() == 0
        assert [status.name for status in read_all(config)] == [f"broadcaster-{other}"]


@pytest.mark.parametrize("service", SERVICES)
def test_it_ends_in_time_where_kafka_has_never_been(environ: dict[str, str], config: Config, service: str) -> None:
    (port,) = free_ports(1)
    with started(environ | {"WEIR_KAFKA": f"127.0.0.1:{port}"}, "run", service) as process:
        is_(process, config, "waiting")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE_S) == 0
    assert read_all(config) == []


def deaf(port: int, path: str) -> socket.socket:
    """A subscriber that asks for everything there is, and neither reads nor answers."""
    connected = socket.create_connection(("127.0.0.1", port))
    connected.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return connected


@pytest.mark.long
def test_each_ends_in_time_though_kafka_is_away_and_peers_do_not_answer(
    environ: dict[str, str], kafka_of_its_own: tuple[Config, OwnServer]
) -> None:
    config, server = kafka_of_its_own
    clients.ensure_topics(config, (BROADCAST,))
    Sender(config).send(*["x" * 100_000] * 60)
    environ = environ | {"WEIR_KAFKA": config.kafka.bootstrap, "WEIR_BROADCAST_IDLE": "60s"}
    lone_in, lone_out = free_ports(2)
    moved = {"listener": {"WEIR_LISTENER_PORT": str(lone_in)}, "broadcaster": {"WEIR_BROADCASTER_PORT": str(lone_out)}}

    async def main(running: list[Running]) -> None:
        async with aiohttp.ClientSession() as session:
            senders = []
            for port in (lone_in, config.broadcast.listener_port):
                url = f"http://127.0.0.1:{port}/websocket?ack=1"
                senders.append(await session.ws_connect(url, headers=AUTH, autoclose=False))
                await senders[-1].send_str("one")
                assert await senders[-1].receive_json(timeout=PATIENCE_S) == {"ack": 1}
            server.kill()
            for sender in senders:
                await sender.send_str("two")
                assert await sender.receive_json(timeout=PATIENCE_S) == {"waiting": "Kafka does not answer"}
            for process in running:
                await asyncio.to_thread(is_, process, config, "waiting")
            for process in running:
                process.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.process.wait, PATIENCE_S) == 0
            for sender in senders:
                assert ((await sender.receive(timeout=PATIENCE_S)).type, sender.close_code) == (
                    aiohttp.WSMsgType.CLOSE,
                    1001,
                )

    with ExitStack() as stack:
        running = [
            stack.enter_context(started(environ | moved.get(service, {}), "run", service)) for service in SERVICES
        ]
        for process in running:
            is_(process, config, "running")
        for port in (lone_out, config.broadcast.broadcaster_port):
            for query in ("", "?after=0-0.1-0.2-0.3-0"):
                stack.enter_context(deaf(port, f"/websocket{query}"))
        asyncio.run(asyncio.wait_for(main(running), PATIENCE_S))
    assert read_all(config) == []
