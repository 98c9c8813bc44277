"""Open files: as many as the kernel lets this process have, and what of the limits they are enough for."""

from __future__ import annotations

import dataclasses
import resource

from infra import log
from infra.errors import StartError
from infra.websocket.limits import Limits

#: What the process needs besides connections: Kafka's clients, logs, status files.
RESERVE = 200

_log = log.get("websocket")


def fitting(limits: Limits, descriptors: int, ports: int) -> Limits:
    """The limits with no more connections and handshakes than so many open files are enough for, at `ports` ports.

    So those beyond are answered, and Kafka stays within reach. Raises StartError where nothing would be left.
    """
    handshakes = min(limits.handshakes, (descriptors - RESERVE) // (4 * ports))
    connections = min(limits.connections, descriptors - RESERVE - ports * handshakes)
    if handshakes < 1:
        raise StartError(f"the process may have {descriptors} open files (`ulimit -n`), which is not enough")
    return dataclasses.replace(limits, handshakes=handshakes, connections=connections)


def available(wanted: int) -> int:
    """How many open files this process may have, after its limit has been raised towards `wanted` as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def fit(limits: Limits, ports: int) -> Limits:
    """`fitting` for this process. Raises StartError."""
    open_files = available(limits.connections + ports * limits.handshakes + RESERVE)
    fit = fitting(limits, open_files, ports)
    if fit.connections < limits.connections:
        _log.info("websocket.few_open_files", open_files=open_files, connections=fit.connections,
                  wanted=limits.connections)  # fmt: skip
    return fit
