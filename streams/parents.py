"""Which parent a child belonged to at a time: the view of topic `relations` that the links job counts by."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from schemas.links import Relation
from schemas.topics import RELATIONS
from streams.api import PoisonError, Reason, Record


class Parents:
    """Every child's parents over time. The first known parent also covers all time before it.

    `settled` holds the children that only ever had one parent, which is nearly all of them: the hot path is one
    lookup there. The others' histories are immutable and replaced whole, since one thread applies while another asks.
    """

    topic = RELATIONS

    def __init__(self) -> None:
        self.settled: dict[str, str] = {}
        self._history: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}  # child: since and parent, by time
        self._decoder = RELATIONS.decoder()

    def apply(self, records: Sequence[Record]) -> None:
        """Takes `relations` records in offset order."""
        assert self._decoder is not None
        for record in records:
            since = record.timestamp()[1]
            if since < 0:
                continue
            for element, _ in self._decoder.elements(record.value()):
                if isinstance(element, Relation):
                    self.add(element.child, element.parent, since)

    def add(self, child: str, parent: str, since: int) -> None:
        """`child` belongs to `parent` from `since` (epoch ms) on. Of two for one moment, the later added holds."""
        times, parents = self._history.get(child, ((), ()))
        at = bisect_left(times, since)
        same = at < len(times) and times[at] == since
        parents = (*parents[:at], parent, *parents[at + same :])
        self._history[child] = (*times[:at], since, *times[at + same :]), parents
        if len(parents) == 1:
            self.settled[child] = parent
        elif self.settled.get(child) != parent:
            self.settled.pop(child, None)

    def at(self, child: str, timestamp: int) -> str:
        """The parent in force at `timestamp`. Raises PoisonError where nobody has declared the child."""
        parent = self.settled.get(child)
        if parent is not None:
            return parent
        if child not in self._history:
            raise PoisonError(Reason.UNKNOWN_CHILD, f"no relation names the child {child!r}")
        times, parents = self._history[child]
        return parents[max(bisect_right(times, timestamp) - 1, 0)]
