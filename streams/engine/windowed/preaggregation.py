"""Pre-aggregation: what stage one keeps of each cell between two flushes, and the plain states that a flush takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from weir.streams.engine.aggregates.aggregation import Aggregation, Counts, Key, Row
from weir.streams.engine.aggregates.partials import ROOM
from weir.streams.engine.windowed.windows import SessionWindows, Windows

#: So many rows are kept before they are folded, whatever the linger: what a job may hold of its events in memory.
ROWS = 100_000


class PreAggregator(Protocol):
    """Collects rows (`Aggregation.rows`) with their keys and times (epoch ms)."""

    @property
    def weigh(self) -> Callable[[Any], int] | None:
        """Gives the weight of a plain state in a partial; None: each weighs 1."""

    @property
    def cut(self) -> Callable[[Any], Iterable[Any]] | None:
        """Makes plain states that fit a partial of a long one, which stage two merges; None: no state is too long."""

    def add(self, keys: Sequence[Key], times: Sequence[int], rows: Iterable[Row], first: int, last: int) -> None:
        """Takes rows whose times lie between `first` and `last`."""

    def take(self) -> Mapping[int, Mapping[Key, Any]]:
        """Returns pane start to key to plain state, of all rows since the last `take`.

        A key's sessions are one plain state, a list, and all are in pane 0.
        """

    def events(self, states: Iterable[Any]) -> int:
        """Returns how many events are in plain states."""


def preaggregator(windows: Windows | SessionWindows, aggregation: Aggregation) -> PreAggregator:
    """Returns the fastest pre-aggregator for these windows and aggregates."""
    if isinstance(windows, SessionWindows):
        return SessionPreAggregator(windows.gap, aggregation)
    if isinstance(aggregation, Counts):
        return CountPreAggregator(windows.pane)
    return GroupPreAggregator(windows.pane, aggregation)


class CountPreAggregator:
    """Counts at once."""

    weigh: None = None
    cut: None = None

    def __init__(self, pane: int) -> None:
        self._pane = pane
        self._counts: defaultdict[int, Counter[Key]] = defaultdict(Counter)

    def add(self, keys: Sequence[Key], times: Sequence[int], rows: Iterable[Row], first: int, last: int) -> None:
        pane = self._pane
        start = first - first % pane
        if last < start + pane:
            self._counts[start].update(keys)
        else:
            for key, time in zip(keys, times, strict=True):
                self._counts[time - time % pane][key] += 1

    def take(self) -> Mapping[int, Mapping[Key, Any]]:
        counts, self._counts = self._counts, defaultdict(Counter)
        return counts

    def events(self, states: Iterable[Any]) -> int:
        return sum(states)


class GroupPreAggregator:
    """Keeps rows by cell, and folds many at a time: an aggregate is much faster over a column than row by row.

    A cell's rows stand one after the other in one list: kept as tuples they would cost four times as much.
    """

    cut: None = None

    def __init__(self, pane: int, aggregation: Aggregation) -> None:
        self._pane, self._aggregation = pane, aggregation
        self.weigh, self.events = aggregation.weight, aggregation.events
        self._groups: defaultdict[int, defaultdict[Key, list[Any]]] = defaultdict(_groups)
        self._folded: defaultdict[int, dict[Key, Any]] = defaultdict(dict)
        self._rows = 0

    def add(self, keys: Sequence[Key], times: Sequence[int], rows: Iterable[Row], first: int, last: int) -> None:
        pane = self._pane
        start = first - first % pane
        if last < start + pane:
            for kept, row in zip(map(self._groups[start].__getitem__, keys), rows, strict=True):
                kept.extend(row)
        else:
            for key, time, row in zip(keys, times, rows, strict=True):
                self._groups[time - time % pane][key].extend(row)
        self._rows += len(keys)
        if self._rows > ROWS:
            self._fold()

    def _fold(self) -> None:
        fold = self._aggregation.fold
        groups, self._groups, self._rows = self._groups, defaultdict(_groups), 0
        for start, cells in groups.items():
            folded = self._folded[start]
            for key, kept in cells.items():
                folded[key] = fold(folded.get(key), kept)

    def take(self) -> Mapping[int, Mapping[Key, Any]]:
        self._fold()
        folded, self._folded = self._folded, defaultdict(dict)
        dump = self._aggregation.dump
        return {start: {key: dump(state) for key, state in cells.items()} for start, cells in folded.items()}


class SessionPreAggregator:
    """Keeps rows by key, and finds the sessions among them at the end: [first, last, plain state] each, in order."""

    def __init__(self, gap: int, aggregation: Aggregation) -> None:
        self._gap, self._aggregation = gap, aggregation
        self._groups: defaultdict[Key, list[tuple[int, Row]]] = defaultdict(list)
        self._folded: dict[Key, list[list[Any]]] = {}
        self._rows = 0

    def add(self, keys: Sequence[Key], times: Sequence[int], rows: Iterable[Row], first: int, last: int) -> None:
        groups = self._groups
        for key, time, row in zip(keys, times, rows, strict=True):
            groups[key].append((time, row))
        self._rows += len(keys)
        if self._rows > ROWS:
            self._fold()

    def _fold(self) -> None:
        groups, self._groups, self._rows = self._groups, defaultdict(list), 0
        for key, rows in groups.items():
            self._folded.setdefault(key, []).extend(self._sessions(rows))

    def _sessions(self, rows: list[tuple[int, Row]]) -> list[list[Any]]:
        rows.sort(key=_time)
        aggregation = self._aggregation
        found: list[list[Any]] = []
        begin = 0
        for at in range(1, len(rows) + 1):
            if at == len(rows) or rows[at][0] - rows[at - 1][0] > self._gap:
                state = aggregation.fold(None, list(chain.from_iterable(row for _, row in rows[begin:at])))
                found.append([rows[begin][0], rows[at - 1][0], aggregation.dump(state)])
                begin = at
        return found

    def take(self) -> Mapping[int, Mapping[Key, Any]]:
        self._fold()
        folded, self._folded = self._folded, {}
        return {0: folded} if folded else {}

    def events(self, states: Iterable[Any]) -> int:
        return self._aggregation.events(one for sessions in states for _, _, one in sessions)

    def weigh(self, sessions: list[Any]) -> int:
        """Returns the weight of a key's sessions."""
        weight = self._aggregation.weight
        return sum(weight(one) for _, _, one in sessions)

    def cut(self, sessions: list[Any]) -> Iterable[list[Any]]:
        """Returns lists of sessions of which each fits a partial."""
        weight = self._aggregation.weight
        begin = total = 0
        for at, (_, _, one) in enumerate(sessions):
            if total and total + weight(one) > ROOM:
                yield sessions[begin:at]
                begin, total = at, 0
            total += weight(one)
        yield sessions[begin:]


def _groups() -> defaultdict[Key, list[Any]]:
    return defaultdict(list)


def _time(row: tuple[int, Any]) -> int:
    return row[0]
