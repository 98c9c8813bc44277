"""What a run plays its faults against: the links job, or both monitoring jobs; each with its events and its truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import monitored
from chaos.source import Source
from infra.config import Config
from workers import Results, wait_until

#: How long the jobs may take, once nothing fails any more, to have processed everything.
SETTLE_S = 120.0


class Case(Protocol):
    """Jobs, the events for them, and what has to come of these."""

    #: A run wants so many workers of each.
    jobs: Sequence[str]

    def begun(self) -> bool:
        """Whether anything has come out."""

    def send(self, events: int) -> None:
        """Hands so many to the producer, which sends them in its own time."""

    def finish(self) -> None:
        """Waits for every acknowledgement."""

    def check(self, tick: Callable[[], None]) -> None:
        """Waits until everything is processed, `tick`ing; raises AssertionError where it is not as it must be."""


class Links:
    """Calls between children, counted per window: the counts, the ledger and the closings."""

    jobs: Sequence[str] = ("links",)

    def __init__(self, config: Config, seed: int, events: int) -> None:
        self._config, self._source, self._results = config, Source(config, seed, events), Results(config)

    def begun(self) -> bool:
        return self._results.merged > 0

    def send(self, events: int) -> None:
        self._source.send(events)

    def finish(self) -> None:
        self._source.finish()

    def check(self, tick: Callable[[], None]) -> None:
        source, results = self._source, self._results
        wait_until(lambda: results.merged >= source.expected.total(), SETTLE_S, tick)
        assert results.counts() == source.expected
        # The three sides, each measured by itself: what the broker took, what was routed, what stands in the cells.
        routed = results.routed
        assert source.acknowledged == source.sent == routed.accepted
        assert (routed.counted, routed.late, routed.dead) == (results.counts().total(), source.late, 0)
        assert (len(results.records("late-events")), len(results.records("dead-letters"))) == (source.late, 0)

        partitions = range(self._config.partitions)
        every = {(window, partition) for window in source.to_be_closed() for partition in partitions}
        wait_until(lambda: every <= {(c.window.start, c.partition) for c in results.closed()}, SETTLE_S, tick)
        closed = Counter((c.window.start, c.partition) for c in results.closed())
        assert set(closed.values()) == {1}
        assert all(cell.final for (window, _, _), cell in results.latest().items() if (window, 0) in every)


class Monitoring:
    """Events of monitored clients, a third of them sent before: each counts once."""

    jobs: Sequence[str] = monitored.JOBS

    def __init__(self, config: Config, seed: int, events: int) -> None:
        self._source, self._results = monitored.Source(config, seed), monitored.Results(config)

    def begun(self) -> bool:
        return self._results.ledger("monitoring").merged > 0

    def send(self, events: int) -> None:
        self._source.send(events)

    def finish(self) -> None:
        self._source.finish()

    def check(self, tick: Callable[[], None]) -> None:
        wait_until(lambda: self._results.done(self._source), SETTLE_S, tick)
        self._results.check(self._source)


CASES: Mapping[str, Callable[[Config, int, int], Case]] = {"links": Links, "monitoring": Monitoring}
