"""Limits of one HTTP server."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from weir.infra import log
from weir.infra.config.sections.http import HttpConfig
from weir.infra.connections.open_files import RESERVE, available
from weir.infra.errors import StartError

_log = log.get_logger("http")


@dataclass(frozen=True)
class HttpLimits:
    """`head`, `idle`, `write`, `crowded` in seconds; `answers` and `slice` in bytes; the others are counts."""

    connections: int = 4_000
    per_address: int = 1_000
    #: The same for loopback addresses: a proxy on this machine comes from there.
    from_loopback: int = 4_000
    #: How long a request's head may take, and how long a connection may wait for its next request.
    head: float = 5.0
    idle: float = 75.0
    #: How long a waiting connection has its place for sure where others wait for one.
    crowded: float = 1.0
    #: A client has so many seconds for each `slice` of an answer.
    write: float = 30.0
    slice: int = 256 << 10
    answers: int = 64 << 20

    @classmethod
    def of(cls, config: HttpConfig) -> HttpLimits:
        """Returns the limits that the settings ask for."""
        most, per_address = config.connections, config.per_address
        return cls(
            connections=most,
            per_address=per_address or max(1, most // 4),
            from_loopback=per_address or most,
            head=config.head / 1000,
            idle=config.idle / 1000,
            write=config.write / 1000,
            answers=config.answers,
        )

    def of_address(self, whole: int) -> int:
        """How much of something that connections share (memory, sockets) those of one address may have: a quarter, or
        more where they may be more than a quarter of all connections."""
        return self._part(whole, self.per_address)

    def of_loopback(self, whole: int) -> int:
        """Returns how much of `whole` one loopback address may have."""
        return self._part(whole, self.from_loopback)

    def _part(self, whole: int, connections: int) -> int:
        return max(1, whole // 4, whole * min(connections, self.connections) // self.connections)

    def fitting(self, descriptors: int) -> HttpLimits:
        """The limits with no more connections than so many open files are enough for.

        Raises StartError where nothing would be left.
        """
        most = min(self.connections, descriptors - RESERVE)
        if most < 1:
            raise StartError(f"the process may have {descriptors} open files, too few: raise the limit (`ulimit -n`)")
        fit = dataclasses.replace(self, connections=most)
        return dataclasses.replace(
            fit,
            per_address=min(self.per_address, self.of_address(most)),
            from_loopback=min(self.from_loopback, self.of_loopback(most)),
        )

    def fit(self) -> HttpLimits:
        """`fitting` for this process, whose limit of open files is raised as far as it may. Raises StartError."""
        open_files = available(self.connections + RESERVE)
        fit = self.fitting(open_files)
        if fit.connections < self.connections:
            _log.info("http.few_open_files", open_files=open_files, connections=fit.connections,
                      wanted=self.connections)  # fmt: skip
        return fit
