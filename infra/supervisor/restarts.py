"""When a service that died is started again: decided here, without a clock or a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from weir.infra.runtime.backoff import Backoff


class RestartPolicy:
    """The delays between one service's death and its next start.

    They grow while it keeps dying, and are short again once it has lived for `healthy` seconds. One that refused to go
    on waits for a person, and is tried again every `refused` seconds only. `clock` is any monotonic clock in seconds.

    >>> now = 0.0
    >>> policy = RestartPolicy(lambda: now, Backoff(first=1.0, cap=30.0, jitter=lambda: 1.0), healthy=60.0)
    >>> policy.started(); policy.died()
    1.0
    >>> policy.started(); policy.died()
    2.0
    >>> policy.started(); now = 60.0; policy.died()
    1.0
    >>> policy.started(); policy.died(refused=True), policy.deaths
    (60.0, 4)
    """

    def __init__(
        self, clock: Callable[[], float], backoff: Backoff, healthy: float = 60.0, refused: float = 60.0
    ) -> None:
        self._clock = clock
        self._backoff = backoff
        self._healthy = healthy
        self._refused = refused
        self._since = clock()
        self.deaths = 0

    def started(self) -> None:
        """An attempt begins."""
        self._since = self._clock()

    def died(self, refused: bool = False) -> float:
        """Records that the process ended, and returns the seconds to wait before the next attempt. `refused`: it said
        that no restart would help.
        """
        self.deaths += 1
        if refused:
            self._backoff.reset()
            return self._refused
        if self._clock() - self._since >= self._healthy:
            self._backoff.reset()
        return self._backoff.next()
