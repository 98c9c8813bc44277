"""Ports that a server wants: what is wrong is said of the setting that is wrong."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from weir.infra.errors import ConfigError, PortTakenError
from weir.infra.ports import Port, check_all_free, check_free, free_ports


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "a..b", "a" * 70])
def test_a_host_that_is_not_this_machine_names_its_variable_and_not_the_ports(host: str) -> None:
    with pytest.raises(ConfigError, match="WEIR_HOST=") as caught:
        check_free(host, free_ports(1)[0], "the service api", "WEIR_API_PORT")
    assert "WEIR_API_PORT" not in str(caught.value)


def test_a_port_that_is_taken_names_the_variable_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTakenError, match="WEIR_API_PORT"):
        check_free("127.0.0.1", taken.getsockname()[1], "the service api", "WEIR_API_PORT")


def test_all_ports_that_are_taken_are_named_at_once_with_their_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        wanted = [
            Port("127.0.0.1", first, "the embedded Kafka", "WEIR_KAFKA_PORT"),
            Port("127.0.0.1", free_ports(1)[0], "the embedded Postgres", "WEIR_POSTGRES_PORT"),
            Port("127.0.0.1", second, "the service api", "WEIR_API_PORT"),
        ]
        with pytest.raises(PortTakenError) as caught:
            check_all_free(wanted)
    assert str(caught.value) == (
        f"these ports are taken by other programs: {first} (the embedded Kafka: WEIR_KAFKA_PORT), "
        f"{second} (the service api: WEIR_API_PORT); choose others with these settings, or move all of them with "
        "WEIR_PORT_BASE"
    )


def test_free_ports_are_all_different_and_none_that_outgoing_connections_get() -> None:
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = free_ports(50)
    assert len(set(found)) == 50
    assert max(found) < low
    for port in found:
        check_free("127.0.0.1", port, "a test", "WEIR_API_PORT")
