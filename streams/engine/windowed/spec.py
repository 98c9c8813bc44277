"""The declaration of a windowed job: what it reads, counts and writes, checked, and what its stages read of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

from weir.schemas.codec import Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import Topic, kept_for
from weir.streams.engine.aggregates.aggregates import Aggregate
from weir.streams.engine.aggregates.aggregation import Aggregation, Counts, Key, Several
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import View, check_name
from weir.streams.engine.core.records import FRAME, Record, largest
from weir.streams.engine.state.tables import STORES
from weir.streams.engine.windowed.results import State, Write, read_state, writer
from weir.streams.engine.windowed.windows import SessionWindows, Windows

#: How long a key may be, all its parts together, in characters: 2 000 of them fit a partial.
MAX_GROUP_KEY = 1024


class Emit(enum.Enum):
    """When results are written."""

    CHANGES = "changes"  # at every flush, those that changed; once more, final, when the window closes
    CLOSED = "closed"  # when the window closes; after it, only where a late event revises a result


@dataclass(frozen=True, kw_only=True)
class WindowedSpec:
    """The fields of a windowed job, checked; `Windowed` says what each means. Raises ValueError for contradictions."""

    name: str
    source: Topic
    windows: Windows | SessionWindows
    partials: Topic
    output: Topic
    key: Sequence[str] | Callable[[Any], Key] | None = None
    keys: Callable[[Sequence[Any], Sequence[int]], Sequence[Key]] | None = None
    times: Callable[[Sequence[Any], Sequence[int]], Sequence[int]] | None = None
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    changelog: Topic | None = None
    closings: Topic | None = None
    write: Write | None = None
    read: Callable[[Record], State] | None = None
    emit: Emit = Emit.CHANGES
    view: View | None = None
    max_skew: int = 300_000
    linger: int = 200
    store: str = "memory"

    def __post_init__(self) -> None:
        check_name(self.name)
        if (self.key is None) == (self.keys is None):
            raise ValueError(f"job {self.name}: give either key or keys, and not both")
        if isinstance(self.key, str) or self.key == []:
            raise ValueError(f"job {self.name}: key must be a list of attributes' names, not {self.key!r}")
        if self.source.value is None:
            raise ValueError(f"job {self.name}: topic {self.source.name} has no type to decode: give its Topic a value")
        if self.emit is Emit.CLOSED and self.changelog is None:
            raise ValueError(
                f"job {self.name}: Emit.CLOSED needs a changelog: the results hold no state of open windows"
            )
        if self.read is not None and (self.aggregates or self.changelog):
            raise ValueError(f"job {self.name}: `read` goes with counts alone: leave out `aggregates` and `changelog`")
        if self.closings is not None and not self.windows.aligned:
            raise ValueError(f"job {self.name}: sessions close one by one, so leave out `closings`")
        if self.write is None and (clashes := self._clashes()):
            raise ValueError(
                f"job {self.name}: a result would have two fields of one name: {', '.join(clashes)}; rename the "
                f"aggregate"
            )
        if self.store not in STORES:
            raise ValueError(f"job {self.name}: unknown store {self.store!r}; known stores: {', '.join(STORES)}")
        if self.store != "memory" and not self.windows.aligned:
            raise ValueError(f"job {self.name}: sessions are kept in memory: leave out store={self.store!r}")
        holds_state = self.changelog or self.output
        keeps = kept_for(holds_state)
        if keeps is not None and self.windows.retention > keeps:
            raise ValueError(
                f"job {self.name}: windows are retained for {self.windows.retention} ms, but topic {holds_state.name}, "
                f"which their state is restored from, keeps records for {keeps} ms only: raise its retention.ms"
            )
        # The key stands there up to three times, in JSON with escapes.
        largest_state = self.aggregation.size + 16 * MAX_GROUP_KEY + FRAME
        for topic in (self.partials, self.changelog or (self.output if self.states_in_headers else None)):
            if topic is not None and largest_state > largest(topic):
                raise ValueError(
                    f"job {self.name}: the state of these aggregates may take {largest_state} bytes, but topic "
                    f"{topic.name} takes {largest(topic)}: raise its max.message.bytes"
                )

    def _clashes(self) -> list[str]:
        """The names that a result as `writer` writes it would have twice."""
        own = ["window", "final", *(["key"] if self.key is None or callable(self.key) else self.key)]
        names = [*own, *(self.aggregates or ["count"])]
        return sorted({name for name in names if names.count(name) > 1})

    @cached_property
    def decoder(self) -> Decoder[Any]:
        """Decodes the source's records into elements."""
        decoder = self.source.decoder()
        assert decoder is not None
        return decoder

    @cached_property
    def aggregation(self) -> Aggregation:
        """The aggregates as one."""
        return Several(self.aggregates) if self.aggregates else Counts()

    @cached_property
    def times_of(self) -> Callable[[Sequence[Any], Sequence[int]], Sequence[int]] | None:
        """The times of elements at their records' timestamps; None: those are the times."""
        return None if self.times is None else _whole(self.times)

    @cached_property
    def keys_of(self) -> Callable[[Sequence[Any], Sequence[int]], Sequence[Key]]:
        """The keys of elements at their times."""
        if self.keys is not None:
            return self.keys
        assert self.key is not None
        if callable(self.key):
            return _bounded(self.key)
        if len(self.key) == 1:
            return _bounded(lambda element, get=attrgetter(*self.key): (get(element),))  # type: ignore[misc]
        return _bounded(attrgetter(*self.key))

    @cached_property
    def check_all(self) -> Callable[[Sequence[Any]], None]:
        """Raises ValueError where the source's check refuses one of the elements, if `keys` does not see to that."""
        check = self.source.check
        if check is None or self.keys is not None:
            return lambda elements: None

        def check_all(elements: Sequence[Any]) -> None:
            for element in elements:
                check(element)

        return check_all

    @property
    def emits_on_close(self) -> bool:
        """Whether a result is written only when its window closes."""
        return self.emit is Emit.CLOSED

    @property
    def states_in_headers(self) -> bool:
        """Whether a result carries its cell's state, for want of a changelog and of a value that says it."""
        return self.changelog is None and self.read is None

    @cached_property
    def writes_cells(self) -> Write:
        """Key and value of a result's record."""
        names = None if self.key is None or callable(self.key) else list(self.key)
        return self.write or writer(names)

    @cached_property
    def reads_cells(self) -> Callable[[Record], State]:
        """A record of the changelog as the cell that it holds."""
        return self.read or read_state


def _bounded(key: Callable[[Any], Any]) -> Callable[[Sequence[Any], Sequence[int]], Sequence[Key]]:
    def keys(elements: Sequence[Any], timestamps: Sequence[int]) -> Sequence[Key]:
        found = [key(element) for element in elements]
        if not all(issubclass(kind, tuple) for kind in set(map(type, found))):  # stage two could never read it
            wrong = next(k for k in found if not isinstance(k, tuple))
            raise EngineError(f"`key` must return a tuple of texts, not {wrong!r}")
        try:
            longest = max(map(len, map("".join, found)))
        except TypeError as e:
            raise PoisonError(Reason.INVALID, f"a part of the key is not a text: {e}") from e
        if longest > MAX_GROUP_KEY:
            raise PoisonError(Reason.INVALID, f"the key is longer than {MAX_GROUP_KEY} characters")
        return found

    return keys


def _whole(times: Callable[[Sequence[Any], Sequence[int]], Sequence[int]]) -> Callable[..., Sequence[int]]:
    def checked(elements: Sequence[Any], timestamps: Sequence[int]) -> Sequence[int]:
        found = times(elements, timestamps)
        if len(found) != len(elements):
            raise EngineError(
                f"`times` must return a time for each of {len(elements)} elements, not {len(found)} times"
            )
        if set(map(type, found)) != {int}:  # a window must not begin at a fraction
            wrong = next(t for t in found if type(t) is not int)
            raise EngineError(f"`times` must return ints, in epoch milliseconds, not {wrong!r}")
        return found

    return checked
