"""Whether a port can be had: asked before a server starts, which would only say so in its own log. And free ones."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from random import SystemRandom
from typing import NamedTuple

from weir.infra.errors import ConfigError, PortTakenError

#: Below the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range), and above well-known ones.
_LISTENING = (10_000, 32_768)
#: Not the one that tests set a seed of: those of several processes would take the same ports.
_chance = SystemRandom()


class Port(NamedTuple):
    """A port that `owner` wants to listen on; `variable` is the setting that moves it."""

    host: str
    number: int
    owner: str
    variable: str


def check_all_free(ports: Iterable[Port]) -> None:
    """Raises PortTakenError that names all of them that cannot be had, each with its owner and its setting.

    Raises ConfigError where a host is no address of this machine.
    """
    taken: dict[Port, PortTakenError] = {}
    for port in ports:
        try:
            check_free(*port)
        except PortTakenError as e:
            taken[port] = e
    if len(taken) == 1:
        raise next(iter(taken.values()))
    if taken:
        each = ", ".join(f"{port.number} ({port.owner}: {port.variable})" for port in taken)
        raise PortTakenError(
            f"these ports are taken by other programs: {each}; choose others with these settings, or move all of them "
            "with WEIR_PORT_BASE"
        )


def check_free(host: str, port: int, owner: str, variable: str) -> None:
    """Raises PortTakenError where another program listens on `port`; `variable` is the setting that moves it.

    Raises ConfigError where `host` is no address of this machine.
    """
    try:
        socket.getaddrinfo(host, port)
    except socket.gaierror as e:
        raise ConfigError(f"WEIR_HOST={host!r} is not an address of this machine: {e.strerror}") from e
    except UnicodeError as e:  # a part between two dots that is empty, or too long
        raise ConfigError(f"WEIR_HOST={host!r} is not an address") from e
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Connections that are still closing do not count as taken: the servers set this option, too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            if e.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"WEIR_HOST={host!r} is not an address of this machine") from e
            raise PortTakenError(
                f"cannot listen on port {port} for {owner}: {e.strerror}; "
                f"choose another with {variable}, or move all of them with WEIR_PORT_BASE"
            ) from e


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different, and none that an outgoing connection may get."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", _chance.randrange(*_LISTENING)))
                found.append(probe.getsockname()[1])
    return found
