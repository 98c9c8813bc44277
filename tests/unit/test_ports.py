"""Ports that a server wants: what is wrong is said of the setting that is wrong."""

from __future__ import annotations

import socket

import pytest

from infra.errors import ConfigError, PortTakenError
from infra.ports import check_free, free_ports


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "a..b", "a" * 70])
def test_a_host_that_is_not_this_machine_names_its_variable_and_not_the_ports(host: str) -> None:
    with pytest.raises(ConfigError, match="WEIR_HOST=") as caught:
        check_free(host, free_ports(1)[0], "the service api", "WEIR_API_PORT")
    assert "WEIR_API_PORT" not in str(caught.value)


def test_a_port_that_is_taken_names_the_variable_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTakenError, match="WEIR_API_PORT"):
        check_free("127.0.0.1", taken.getsockname()[1], "the service api", "WEIR_API_PORT")
