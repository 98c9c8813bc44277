"""Limits of a WebSocket server, reduced to the number of files that the process may open."""

from __future__ import annotations

import dataclasses

from weir.infra import log
from weir.infra.connections.open_files import RESERVE, available
from weir.infra.errors import StartError
from weir.infra.websocket.limits import Limits

_log = log.get_logger("websocket")


def fitting(limits: Limits, descriptors: int, ports: int) -> Limits:
    """The limits with no more connections and handshakes than so many open files are enough for, at `ports` ports.

    So those beyond are answered, and Kafka stays within reach. Raises StartError where nothing would be left.
    """
    handshakes = min(limits.handshakes, (descriptors - RESERVE) // (4 * ports))
    connections = min(limits.connections, descriptors - RESERVE - ports * handshakes)
    if handshakes < 1:
        raise StartError(f"the process may have {descriptors} open files, too few: raise the limit (`ulimit -n`)")
    return dataclasses.replace(limits, handshakes=handshakes, connections=connections)


def fit(limits: Limits, ports: int) -> Limits:
    """`fitting` for this process. Raises StartError."""
    open_files = available(limits.connections + ports * limits.handshakes + RESERVE)
    fit = fitting(limits, open_files, ports)
    if fit.connections < limits.connections:
        _log.info("websocket.few_open_files", open_files=open_files, connections=fit.connections,
                  wanted=limits.connections)  # fmt: skip
    return fit
