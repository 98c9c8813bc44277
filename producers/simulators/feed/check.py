"""Does what comes back to a feed agree with what it sent? Totals per pair of parents over all windows. Pure.

A feed has no acknowledgements, so where a connection breaks, what was sent shortly before may or may not have
arrived: it is in doubt, and counts as right either way. The same holds for a call that names a child declared only
later. All else must be equal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from weir.schemas.codec import BAD_INPUT, Decoder, poison
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.links import Communication, Relation, WindowSummary, check_relation
from weir.schemas.times import from_rfc3339
from weir.schemas.windows import Window

#: So many windows are remembered for the case that one comes back revised. A revision comes minutes later at most.
WINDOWS_KEPT = 1000
#: A window that ended so long before the feed began is not this feed's, in milliseconds; the two clocks may differ.
CLOCKS_DIFFER = 5_000
_SECOND = 1_000
#: What was sent longer ago than this many seconds in which something was sent is no longer on its way.
SECONDS_KEPT = 3600

Pair = tuple[str, str]


class PairTotal(NamedTuple):
    """One pair of parents: communications that were sent for sure, those in doubt, and those that came back."""

    source: str
    destination: str
    sent: int
    in_doubt: int
    counted: int

    @property
    def difference(self) -> int:
        """How many too few (negative) or too many came back."""
        return min(0, self.counted - self.sent) or max(0, self.counted - self.sent - self.in_doubt)


@dataclass(frozen=True)
class Comparison:
    """Counts sent beside counts received, for all pairs, busiest first. `others`: counts of pairs with a parent that
    this feed never declared.

    `unresolved`: communications that named a child no relation had declared when they were sent; they are not
    expected to come back, unless the child was declared later: then they are in doubt. `not_back`: of each pair that
    has too few, how many of them were sent so late that their window need not have come back yet.
    """

    pairs: list[PairTotal]
    windows: int
    others: int
    unresolved: int
    not_back: Mapping[Pair, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every communication sent has come back in a window, and nothing else has."""
        return all(pair.difference == 0 for pair in self.pairs)

    @property
    def is_early(self) -> bool:
        """Nothing is wrong, but not all has come back: windows may be under way that hold what is missing."""
        return not self.equal and all(
            -self.not_back.get((pair.source, pair.destination), 0) <= pair.difference <= 0 for pair in self.pairs
        )


class _Unconfirmed(NamedTuple):
    number: int
    pairs: list[Pair]
    relations: bytes | None


class _Call(NamedTuple):
    """A communication whose ends could not all be resolved: each end's child, and its parent where one was known."""

    source: str
    source_parent: str | None
    destination: str
    destination_parent: str | None


class FeedCheck:
    """Keeps what was sent, with the relations in force at that moment, and what came back (the latest per window).

    Windows that ended before the first message was sent are left out: they count what another feed sent, or an
    earlier run of this one. `clock` gives epoch milliseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._began: int | None = None
        self._communication = Decoder(Communication)
        self._relation = Decoder(Relation, check_relation)
        self._parents: dict[str, str] = {}
        self._first_parents: dict[str, str] = {}
        self._known: set[str] = set()
        self._sent: Counter[Pair] = Counter()
        self._in_doubt: Counter[Pair] = Counter()
        self._unresolved: Counter[_Call] = Counter()
        self._unconfirmed: deque[_Unconfirmed] = deque()
        #: What was sent since the end of the latest window that came back, or little before: when (epoch ms), and what.
        self._recent: deque[tuple[int, Counter[Pair]]] = deque()
        self._windows: dict[Window, Counter[Pair]] = {}
        self._counted: Counter[Pair] = Counter()
        self.messages = self.communications = self.relations = self.refused = self.windows = 0

    @property
    def counted(self) -> int:
        """How many communications have come back, whosever they are."""
        return self._counted.total()

    @property
    def in_flight(self) -> int:
        """How many messages were sent that the client is not yet known to have read."""
        return len(self._unconfirmed)

    def sent(self, message: bytes) -> int:
        """A message is being sent: from now on it may arrive. Returns its number, from 1."""
        now = self._clock()
        if self._began is None:
            self._began = now
        self.messages += 1
        pairs: list[Pair] = []
        relations = self.relations
        for element, raw in self._communication.elements(message):
            if isinstance(element, Communication):
                self._resolve(element, pairs)
            else:
                self._relate(raw)
        self._sent.update(pairs)
        self._remember(now // _SECOND * _SECOND, pairs)
        again = message if self.relations > relations else None
        self._unconfirmed.append(_Unconfirmed(self.messages, pairs, again))
        return self.messages

    def _remember(self, second: int, pairs: list[Pair]) -> None:
        if not self._recent or self._recent[-1][0] < second:
            self._recent.append((second, Counter()))
            if len(self._recent) > SECONDS_KEPT:
                self._recent.popleft()
        self._recent[-1][1].update(pairs)

    def confirmed(self, number: int) -> None:
        """The client has read everything up to this message."""
        while self._unconfirmed and self._unconfirmed[0].number <= number:
            self._unconfirmed.popleft()

    def broken(self) -> list[bytes]:
        """The connection broke: what is not confirmed is in doubt.

        Returns the messages with relations among it. They are to be sent again, so that no later communication
        depends on what is in doubt; hearing a relation twice changes nothing.
        """
        again = [entry.relations for entry in self._unconfirmed if entry.relations is not None]
        for entry in self._unconfirmed:
            self._sent.subtract(entry.pairs)
            self._in_doubt.update(entry.pairs)
        self._unconfirmed.clear()
        return again

    def came_back(self, payload: str | bytes) -> WindowSummary:
        """A summary has come back; it replaces what came for its window before. Raises PoisonError for all else."""
        try:
            summary = msgspec.json.decode(payload, type=WindowSummary)
            end = from_rfc3339(summary.window.end)
        except BAD_INPUT as e:
            raise poison(e) from e
        except ValueError as e:
            raise PoisonError(Reason.INVALID, str(e)) from e
        if self._began is None or end <= self._began - CLOCKS_DIFFER:
            return summary
        while self._recent and self._recent[0][0] + _SECOND <= end - CLOCKS_DIFFER:
            self._recent.popleft()
        counts: Counter[Pair] = Counter()
        for link in summary.links:
            counts[link.source, link.destination] += link.count
        if (before := self._windows.pop(summary.window, None)) is None:
            self.windows += 1
        else:
            self._counted.subtract(before)
        self._counted.update(counts)
        self._windows[summary.window] = counts
        if len(self._windows) > WINDOWS_KEPT:
            del self._windows[next(iter(self._windows))]
        return summary

    def compare(self) -> Comparison:
        """Compares the counts sent with the counts that have come back so far."""
        in_doubt = self._in_doubt.copy()
        for call, count in self._unresolved.items():
            source = call.source_parent or self._first_parents.get(call.source)
            destination = call.destination_parent or self._first_parents.get(call.destination)
            if source and destination:
                in_doubt[source, destination] += count
        ours = {pair for pair in self._counted if self._known.issuperset(pair)}
        pairs = [
            PairTotal(*pair, self._sent[pair], in_doubt[pair], self._counted[pair])
            for pair in ours | self._sent.keys() | in_doubt.keys()
            if self._sent[pair] or in_doubt[pair] or self._counted[pair]
        ]
        pairs.sort(key=lambda p: (-p.sent, p.source, p.destination))
        recent = sum((sent for _, sent in self._recent), Counter[Pair]())
        not_back = {pair[:2]: late for pair in pairs if (late := min(-min(0, pair.difference), recent[pair[:2]])) > 0}
        others = sum(count for pair, count in self._counted.items() if pair not in ours)
        return Comparison(pairs, self.windows, others, self._unresolved.total(), not_back)

    def _resolve(self, call: Communication, pairs: list[Pair]) -> None:
        self.communications += 1
        source, destination = self._parents.get(call.source), self._parents.get(call.destination)
        if source and destination:
            pairs.append((source, destination))
        else:
            self._unresolved[_Call(call.source, source, call.destination, destination)] += 1

    def _relate(self, raw: bytes) -> None:
        try:
            relation = self._relation.one(raw)
        except PoisonError:
            self.refused += 1  # weir has to refuse it too
            return
        self.relations += 1
        self._known.add(relation.parent)
        self._parents[relation.child] = relation.parent
        self._first_parents.setdefault(relation.child, relation.parent)
