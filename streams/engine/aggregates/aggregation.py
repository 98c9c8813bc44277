"""How the events of a cell become its state, and states become one. A cell is one key in one window.

A state is what stage two keeps. Between the stages and in the changelog it travels *plain*: as what msgpack can write.
`Counts` is by far the most frequent and has nothing but an integer; `Several` is any set of aggregates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Protocol

from weir.streams.engine.aggregates import sums
from weir.streams.engine.aggregates.aggregates import Aggregate, Distinct

Key = tuple[str, ...]
Row = tuple[Any, ...]

#: So many parts of keys are held at most, so that each is there once.
TEXTS = 1 << 16


class _Texts(dict[str, str]):
    """Parts of keys, each there once: a table has the same ones in many keys and windows, and each came on its own."""

    def __missing__(self, text: str) -> str:
        if len(self) >= TEXTS:
            self.clear()
        self[text] = text
        return text


_text = _Texts().__getitem__


def shared(key: Key) -> Key:
    """A key as a table keeps it."""
    return tuple(map(_text, key))


class Aggregation(Protocol):
    """The computation of a windowed job for each cell. `size`: the most bytes that a plain state takes. All rows have
    the same number of parts, at least one. `settle` converts a state that will seldom change again into one that takes
    less memory and longer to merge into; None: there is only one form.
    """

    @property
    def size(self) -> int: ...
    @property
    def settle(self) -> Callable[[Any], Any] | None: ...

    def rows(self, elements: Sequence[Any]) -> Iterable[Row]:
        """Returns a row for each element: the values that are kept until they are folded. Raises PoisonError for an
        element that cannot be aggregated.
        """

    def fold(self, state: Any | None, kept: list[Any]) -> Any:
        """The state with rows, one after the other in `kept`; None: there is none yet. It may be the same, changed."""

    def merge_into(self, cells: MutableMapping[Key, Any], keys: Sequence[Key], plain: Sequence[Any]) -> None:
        """Adds plain states to the cells of a window."""

    def merge(self, a: Any, b: Any) -> Any:
        """Two states as one. It may be the first, changed; the second is left as it is."""

    def dump(self, state: Any) -> Any:
        """The state, plain."""

    def load(self, plain: Any) -> Any:
        """Returns the state that `dump` made plain."""

    def result(self, state: Any) -> Any:
        """Returns the result for a state: an int for a mere count, otherwise one value per aggregate, by name."""

    def results(self, cells: Sequence[tuple[Key, Any]]) -> Sequence[tuple[Key, Any]]:
        """Cells with what is said of them, for their states."""

    def events(self, plain: Iterable[Any]) -> int:
        """How many events are in all these plain states."""

    def weight(self, plain: Any) -> int:
        """How much room a plain state takes, in units of 500 to 2 500 bytes."""


class Counts:
    """The number of events, alone."""

    size = 9
    settle = None

    def rows(self, elements: Sequence[Any]) -> Iterable[Row]:
        return repeat((None,), len(elements))

    def fold(self, state: int | None, kept: list[Any]) -> int:
        return (state or 0) + len(kept)

    def merge_into(self, cells: MutableMapping[Key, int], keys: Sequence[Key], plain: Sequence[int]) -> None:
        get = cells.get
        for key, count in zip(keys, plain, strict=True):
            before = get(key)
            if before is None:
                cells[shared(key)] = count
            else:
                cells[key] = before + count

    def merge(self, a: int, b: int) -> int:
        return a + b

    def dump(self, state: int) -> int:
        return state

    def load(self, plain: int) -> int:
        return plain

    def result(self, state: int) -> int:
        return state

    def results(self, cells: Sequence[tuple[Key, int]]) -> Sequence[tuple[Key, int]]:
        return cells

    def events(self, plain: Iterable[int]) -> int:
        return sum(plain)

    def weight(self, plain: int) -> int:
        return 1


class Several:
    """Aggregates by name. A state is a list: the number of events, then each aggregate's own."""

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        self._names = list(aggregates)
        self._aggregates = list(aggregates.values())
        self._sizes = [one.size for one in self._aggregates]
        self.size = 16 + sum(self._sizes)
        self.settle = self._settled if any(isinstance(one, Distinct) for one in self._aggregates) else None
        fields = list(dict.fromkeys(a.field for a in self._aggregates if a.field is not None))
        self._getters = [_getter(field) for field in fields]
        self._columns = [0 if a.field is None else fields.index(a.field) for a in self._aggregates]
        self._nothing: list[Any] = [0, *[None] * len(self._aggregates)]
        # Several aggregates of one field that take the same values need one look at them.
        placed = zip(self._aggregates, self._columns, strict=True)
        self._checks = list(dict.fromkeys((a.check_all, c) for a, c in placed if a.field is not None))

    def rows(self, elements: Sequence[Any]) -> Iterable[Row]:
        columns = [list(map(get, elements)) for get in self._getters]
        for check, column in self._checks:
            check(columns[column])
        return zip(*columns, strict=True) if columns else repeat((None,), len(elements))

    def fold(self, state: list[Any] | None, kept: list[Any]) -> list[Any]:
        width = max(1, len(self._getters))
        columns = [sums.Column(kept[at::width]) for at in range(width)]
        before, *states = self._nothing if state is None else state
        folded = zip(self._aggregates, states, self._columns, strict=True)
        return [before + len(kept) // width, *[a.fold(one, columns[column]) for a, one, column in folded]]

    def merge_into(self, cells: MutableMapping[Key, Any], keys: Sequence[Key], plain: Sequence[Any]) -> None:
        for key, one in zip(keys, plain, strict=True):
            before, state = cells.get(key), self.load(one)
            if before is None:
                cells[shared(key)] = state
            else:
                cells[key] = self.merge(before, state)

    def merge(self, a: list[Any], b: list[Any]) -> list[Any]:
        merged = (one.merge(x, y) for one, x, y in zip(self._aggregates, a[1:], b[1:], strict=True))
        return [a[0] + b[0], *merged]

    def dump(self, state: list[Any]) -> list[Any]:
        return [state[0], *(a.dump(one) for a, one in zip(self._aggregates, state[1:], strict=True))]

    def load(self, plain: list[Any]) -> list[Any]:
        return [plain[0], *(a.load(one) for a, one in zip(self._aggregates, plain[1:], strict=True))]

    def _settled(self, state: list[Any]) -> list[Any]:
        return self.load(self.dump(state))

    def result(self, state: list[Any]) -> dict[str, Any]:
        found = zip(self._names, self._aggregates, state[1:], strict=True)
        return {name: aggregate.result(one) for name, aggregate, one in found}

    def results(self, cells: Sequence[tuple[Key, list[Any]]]) -> Sequence[tuple[Key, dict[str, Any]]]:
        return [(key, self.result(state)) for key, state in cells]

    def events(self, plain: Iterable[list[Any]]) -> int:
        return sum(one[0] for one in plain)

    def weight(self, plain: list[Any]) -> int:
        known = rest = 0
        for one, size in zip(plain[1:], self._sizes, strict=True):
            if isinstance(one, (bytes, str)):
                known += len(one)
            else:
                rest += size
        return 1 + known // 500 + rest // 2000


def _getter(field: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    return attrgetter(field) if isinstance(field, str) else field
