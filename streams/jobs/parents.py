"""Which parent a child belonged to at a time: the view of topic `relations` that the links job counts by.

A relation is a *fact*: from a moment on, a child belongs to a parent. A child's history is its facts in order of time.
The parent at a time is that of the latest fact at or before it, so the order in which facts arrive decides nothing but
which of two facts of the same moment holds.

A fact between two others that name the same parent changes no answer. It matters for one thing only: a fact of another
parent that arrives later and is dated before it. `history` therefore leaves such facts out once they are old, and
`weir.streams.engine.dataplane.compaction` rewrites the topic with what is left.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from threading import Lock

import msgspec

from weir.schemas.links import Relation
from weir.schemas.topics import RELATIONS
from weir.streams.api import PoisonError, Reason, Record
from weir.streams.engine.core.records import HISTORY, Produce

_encode = msgspec.json.Encoder().encode


class _History:
    """One child's facts in order of time: 16 bytes each. A fact that is the latest is appended, in constant time."""

    __slots__ = ("parents", "times")

    def __init__(self, since: int, parent: str) -> None:
        self.times, self.parents = array("q", [since]), [parent]

    def put(self, since: int, parent: str) -> tuple[int, int]:
        """Takes a fact; by how many facts, and by how many repeated ones, the history has grown."""
        times, parents = self.times, self.parents
        if since > times[-1]:
            times.append(since)
            parents.append(parent)
            return 1, self.repeats(len(times) - 2)
        at = bisect_left(times, since)
        near = range(max(at - 1, 0), at + 2)
        before = sum(map(self.repeats, near))
        if at < len(times) and times[at] == since:
            parents[at] = parent
            return 0, sum(map(self.repeats, near)) - before
        times.insert(at, since)
        parents.insert(at, parent)
        return 1, sum(map(self.repeats, range(near.start, at + 3))) - before

    def repeats(self, at: int) -> bool:
        """Whether the fact stands between two that name the same parent."""
        parents = self.parents
        return 0 < at < len(parents) - 1 and parents[at - 1] == parents[at] == parents[at + 1]


class Parents:
    """Every child's parents over time. The first known parent also covers all time before it.

    `settled` holds the children that only ever had one parent, which is nearly all of them: the hot path is one
    lookup there. `facts` counts the facts that are held, `repeated` those of them that stand between two of the same
    parent. One thread applies while others ask.
    """

    topic = RELATIONS

    def __init__(self) -> None:
        self.settled: dict[str, str] = {}
        self.facts = self.repeated = 0
        self._first: dict[str, int] = {}  # when it began, of a child that was declared once
        self._histories: dict[str, _History] = {}  # all other children
        self._rewritten: tuple[str, list[tuple[int, str]]] = "", []  # the child whose history is just being read
        self._names: dict[str, str] = {}  # each parent's name, held once
        self._lock = Lock()  # of the histories of children that have moved
        self._decoder = RELATIONS.decoder()

    def apply(self, records: Sequence[Record]) -> None:
        """Takes `relations` records in offset order."""
        assert self._decoder is not None
        for record in records:
            since = record.timestamp()[1]
            if since < 0:
                continue
            place = _place(record)
            for element, _ in self._decoder.elements(record.value()):
                if not isinstance(element, Relation):
                    continue
                if place is None:
                    self.add(element.child, element.parent, since)
                else:
                    self._rewrite(element, since, *place)

    def add(self, child: str, parent: str, since: int) -> None:
        """`child` belongs to `parent` from `since` (epoch ms) on. Of two for one moment, the later added holds."""
        parent = self._names.setdefault(parent, parent)
        history = self._histories.get(child)
        if history is None:
            first = self._first.get(child)
            if first is None or first == since:
                self.facts += first is None
                self._first[child], self.settled[child] = since, parent
                return
            history = _History(first, self.settled[child])
        with self._lock:
            facts, repeated = history.put(since, parent)
            self.facts, self.repeated = self.facts + facts, self.repeated + repeated
            self._histories[child] = history
        self._first.pop(child, None)
        if self.settled.get(child) != parent:
            if len(history.times) == 1:
                self.settled[child] = parent
            else:
                self.settled.pop(child, None)

    def at(self, child: str, timestamp: int) -> str:
        """The parent in force at `timestamp`. Raises PoisonError where nobody has declared the child."""
        parent = self.settled.get(child)
        if parent is not None:
            return parent
        with self._lock:
            history = self._histories.get(child)
            if history is not None:
                return history.parents[max(bisect_right(history.times, timestamp) - 1, 0)]
            parent = self.settled.get(child)  # a rewritten history may just have become a single fact
            if parent is not None:
                return parent
        raise PoisonError(Reason.UNKNOWN_CHILD, f"no relation names the child {child!r}")

    # How its topic is compacted: see `weir.streams.engine.dataplane.compaction`.

    def fresh(self) -> Parents:
        """A view of the same topic that has read nothing."""
        return Parents()

    def history(self, before: int) -> Iterator[Produce]:
        """The records that stand for all that was read, without the repeated facts from before that time (epoch ms).

        Those of a child follow on each other, and say in the header `HISTORY` which of how many each is.
        """
        for child, since in self._first.items():
            yield _record(child, self.settled[child], since, 0, 1)
        for child, history in self._histories.items():
            kept = [i for i, since in enumerate(history.times) if since >= before or not history.repeats(i)]
            for number, i in enumerate(kept):
                yield _record(child, history.parents[i], history.times[i], number, len(kept))

    def _rewrite(self, relation: Relation, since: int, number: int, count: int) -> None:
        """Takes a record of `history`; a child's last one puts them in the place of what was known of the child."""
        child, facts = self._rewritten
        if number == 0:
            child, facts = self._rewritten = relation.child, []
        facts.append((since, relation.parent))
        if child != relation.child or number != len(facts) - 1:  # not written by `history`: a relation as any other
            self.add(relation.child, relation.parent, since)
        elif len(facts) == count:
            self._replace(child, facts)

    def _replace(self, child: str, facts: Sequence[tuple[int, str]]) -> None:
        known = self._histories.get(child)
        had, repeats = (1 if child in self._first else 0), 0
        if known is not None:
            had, repeats = len(known.times), sum(map(known.repeats, range(len(known.times))))
        (since, first), *later = facts
        first = self._names.setdefault(first, first)
        if not later:
            self._first[child], self.settled[child] = since, first
            if known is not None:
                with self._lock:
                    del self._histories[child]
            self.facts, self.repeated = self.facts + 1 - had, self.repeated - repeats
            return
        history = _History(since, first)
        grown = [history.put(since, self._names.setdefault(parent, parent)) for since, parent in later]
        with self._lock:
            self._histories[child] = history
        self._first.pop(child, None)
        if set(history.parents) == {first}:
            self.settled[child] = first
        else:
            self.settled.pop(child, None)
        self.facts += 1 - had + sum(facts for facts, _ in grown)
        self.repeated += sum(repeated for _, repeated in grown) - repeats


def _record(child: str, parent: str, since: int, number: int, count: int) -> Produce:
    value, place = _encode(Relation(parent, child)), b"%d/%d" % (number, count)
    return Produce(RELATIONS.name, value, child.encode(), headers=[(HISTORY, place)], timestamp=since)


def _place(record: Record) -> tuple[int, int] | None:
    """Returns the place that `_record` wrote into the header; None for a record that `_record` did not write."""
    for name, value in record.headers() or ():
        if name == HISTORY and value is not None:
            number, _, count = value.partition(b"/")
            if number.isdigit() and count.isdigit():
                return int(number), int(count)
    return None
