"""Parts that the embedded servers share: one small interface, waiting for an answer, reading the end of a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from weir.infra.errors import PortTakenError, ServerFailedError, StartError
from weir.infra.runtime.patience import waiting_for
from weir.infra.servers.disk_space import disk_full
from weir.infra.supervisor.child import Child
from weir.infra.supervisor.logs import put_aside
from weir.infra.supervisor.processes import Process, end

#: A server writes its whole past into its log: this much of the end holds the last start's words.
_TAIL = 8192
#: How long a server may take to start, in seconds. A machine with other work was seen to take a minute and a half;
#: one that takes longer than this does not start any more.
STARTS_S = 600.0
#: Seconds after which it is told that a server is waited for.
_SLOW_S = 10.0


class Server(Child, Protocol):
    """A server that weir runs as a child process, with its data in a folder of `WEIR_HOME`."""

    log: Path


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started, for as long as the block runs. Raises StartError."""
    server.prepare()
    process = server.spawn()
    try:
        server.wait_ready(process)
        yield server
    finally:
        end({process: server.stop_signal}, seconds=5)


def fresh_log(log: Path) -> None:
    """Makes the log's folder, and sets a log aside that has grown large."""
    log.parent.mkdir(parents=True, exist_ok=True)
    put_aside(log)


def wait_until(
    answers: Callable[[], bool], process: Process, server: Server, why: Callable[[], object] = lambda: None
) -> None:
    """Asks `answers` until it says yes; tells now and then that it waits, with `why` where that is known.

    Raises StartError where the process ends, or does not answer for `STARTS_S` seconds.
    """
    deadline = time.monotonic() + STARTS_S
    what = f"{server.name}, which runs and does not answer yet: see {server.log}"
    with waiting_for(what, _SLOW_S, lambda: str(reason) if (reason := why()) is not None else None):
        while not answers():
            if (code := process.poll()) is not None:
                raise last_words(server, f"ended with code {code}")
            if time.monotonic() > deadline:
                raise last_words(server, f"does not answer after {STARTS_S:.0f} s")
            time.sleep(0.05)


def last_words(server: Server, what: str) -> StartError:
    """Why a server failed, from the end of its log."""
    with server.log.open("rb") as log:
        log.seek(max(0, log.seek(0, 2) - _TAIL))
        lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    text = "\n".join(lines[-40:])
    if "No space left on device" in text:
        return disk_full(server.log.parent.parent, f"{server.name} {what}")
    if "Address already in use" in text:
        return PortTakenError(f"{server.name} {what}: a port was taken while it started; see {server.log}")
    return ServerFailedError(f"{server.name} {what}; see {server.log}" + (f" ({lines[-1].strip()})" if lines else ""))
