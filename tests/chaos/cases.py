"""The targets of a chaos run: the links job, or both monitoring jobs, each with its events and expected results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from chaos.source import Source
from support.monitoring import monitored
from support.wait import until
from support.workers import Results
from weir.infra.config import Config

#: How long the jobs may take, once nothing fails any more, to have processed everything: minutes, where others use the
#: machine as well.
SETTLE_S = 600.0


class Case(Protocol):
    """Jobs, the events for them, and what has to come of these."""

    #: A run wants so many workers of each.
    jobs: Sequence[str]

    def processed(self) -> int:
        """How much the jobs have processed and committed so far, in a unit of the case's own."""

    def send(self, events: int) -> None:
        """Hands so many to the producer, which sends them in its own time."""

    def flush(self) -> None:
        """Waits for every acknowledgement."""

    def finish(self) -> None:
        """Sends what ends the events, and waits for every acknowledgement."""

    def check(self, tick: Callable[[], None]) -> None:
        """Waits until everything is processed, `tick`ing; raises AssertionError where it is not as it must be."""

    def check_so_far(self, topic: str, is_anew: bool) -> None:
        """Raises AssertionError where what is committed is not as it must be, after jobs have stopped before they were
        through. `topic` has got a partition, or `is_anew`: what it held is gone. No worker runs, all is acknowledged.
        """


class Links:
    """Calls between children, counted per window: the counts, the ledger and the closings."""

    jobs: Sequence[str] = ("links",)

    def __init__(self, config: Config, seed: int, events: int) -> None:
        self._config, self._source, self._results = config, Source(config, seed, events), Results(config)

    def processed(self) -> int:
        return self._results.merged

    def send(self, events: int) -> None:
        self._source.send(events)

    def flush(self) -> None:
        self._source.flush()

    def finish(self) -> None:
        self._source.finish()

    def check(self, tick: Callable[[], None]) -> None:
        source, results = self._source, self._results
        until(lambda: results.merged >= source.expected.total(), tick, SETTLE_S)
        assert results.counts() == source.expected
        # The three sides, each measured by itself: what the broker took, what was routed, what stands in the cells.
        routed = results.routed
        assert source.acknowledged == source.sent == routed.accepted
        assert (routed.counted, routed.late, routed.dead) == (results.counts().total(), source.late, 0)
        assert (len(results.records("late-events")), len(results.records("dead-letters"))) == (source.late, 0)

        partitions = range(self._config.kafka.partitions)
        every = {(window, partition) for window in source.to_be_closed() for partition in partitions}
        until(lambda: every <= {(c.window.start, c.partition) for c in results.closed()}, tick, SETTLE_S)
        closed = Counter((c.window.start, c.partition) for c in results.closed())
        assert set(closed.values()) == {1}
        assert all(cell.final for (window, _, _), cell in results.latest().items() if (window, 0) in every)

    def check_so_far(self, topic: str, is_anew: bool) -> None:
        """Up to the committed offsets of the source each event counts: in a cell, or in a partial on its way there."""
        source, results = self._source, self._results
        counts, routed = results.counts(), results.routed
        assert counts <= source.expected
        if is_anew and topic == "communications":  # Kafka forgets a group's offsets with the topic
            return
        at = results.positions("communications")
        taken = [cell for p, cells in enumerate(source.taken) for offset, cell in cells.items() if offset < at[p]]
        expected = Counter(cell for cell in taken if cell is not None)
        late = len(taken) - expected.total()
        assert (routed.accepted, routed.counted, routed.late, routed.dead) == (
            len(taken), expected.total(), late, 0,
        )  # fmt: skip
        assert (len(results.records("late-events")), len(results.records("dead-letters"))) == (late, 0)
        if is_anew and topic in ("links-partials", "link-counts"):
            assert counts <= expected
        else:
            assert counts + results.on_the_way() == expected


class Monitoring:
    """Events of monitored clients, a third of them sent before: each counts once."""

    jobs: Sequence[str] = monitored.JOBS

    def __init__(self, config: Config, seed: int, events: int) -> None:
        self._source, self._results = monitored.Source(config, seed), monitored.Results(config)

    def processed(self) -> int:
        return self._results.ledger("monitoring").merged

    def send(self, events: int) -> None:
        self._source.send(events)

    def flush(self) -> None:
        self._source.finish()

    def finish(self) -> None:
        self._source.finish()

    def check(self, tick: Callable[[], None]) -> None:
        until(lambda: self._results.done(self._source), tick, SETTLE_S)
        self._results.check(self._source)

    def check_so_far(self, topic: str, is_anew: bool) -> None:
        self._results.check_so_far(self._source, topic, is_anew)


CASES: Mapping[str, Callable[[Config, int, int], Case]] = {"links": Links, "monitoring": Monitoring}
