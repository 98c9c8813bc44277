"""A Kafka or a Postgres of one test's own, to be killed and started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from weir.infra.servers.server import Server
from weir.infra.supervisor.processes import Process, end


class OwnServer:
    """A server that a test may end and start."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process: Process | None = None

    def start(self) -> None:
        self._server.prepare()
        self._process = self._server.spawn()
        self._server.wait_ready(self._process)

    @property
    def ended(self) -> bool:
        """Whether it does not run: it was ended, or ended by itself."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order."""
        self._end(self._server.stop_signal)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            end({self._process: number}, seconds=30)
            self._process = None


@contextmanager
def own(server: Server) -> Iterator[OwnServer]:
    """The server, started; ended with the block."""
    made = OwnServer(server)
    try:
        made.start()
        yield made
    finally:
        made.stop()
