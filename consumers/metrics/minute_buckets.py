"""Aggregates of the last N minutes, merged from the cells of minutes as they are revised. Pure: time is passed in.

A day of minutes is kept. Their sketches are told apart for two hours, and longer where late events are allowed for
longer; after that ten minutes have one, after six hours an hour. Counts, sums, least and greatest are of exactly the
minutes that are asked for, however old. Of sketches that reach over the beginning of what is asked for, those are taken
of which at least half the events are in it.

Merging a minute's sketches takes some 40 microseconds. So ten minutes are merged once, and for numbers of minutes that
are asked for again and again (`remember`) all but the latest minutes are: see `_Base`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from weir.consumers.metrics.hour_buckets import HOUR, Hour
from weir.consumers.metrics.states import MINUTE, Cell, Figures, figures, merged

#: How many minutes are kept, and can be asked for.
MINUTES = 1440
#: For how many minutes the sketches of minutes are told apart at least, and those of ten minutes.
_APART, _TENS = 120, 360
#: For so many minutes more, minutes that are not final are told apart.
_PATIENCE = 60
#: Of so many of the latest minutes it is looked whether they are final.
_OPEN = 60
#: No two changes have the same number, nor have those of a type that was forgotten and comes again.
_changes = count(1)


class _Base(NamedTuple):
    """The minutes `first` to before `end`, merged; void when one of them is revised.

    It leaves out what will change, and the first minute that is asked for: so it outlives the turn of a minute.
    """

    first: int
    end: int
    cell: Cell


class _Type:
    """Minute cells of one event type."""

    __slots__ = ("bases", "changes", "hours")

    def __init__(self) -> None:
        self.hours: dict[int, Hour] = {}
        self.bases: dict[int, _Base] = {}
        self.changes = 0

    def cells(self, first: int, end: int, share: float = 0.5) -> Iterator[Cell]:
        """Cells that together are the minutes `first` to before `end`."""
        for start in range(first - first % HOUR, end, HOUR):
            if (hour := self.hours.get(start)) is not None:
                yield from hour.cells(first, end, share)

    def open(self, minute: int) -> bool:
        """Whether there is such a minute, and it is not final."""
        hour = self.hours.get(minute - minute % HOUR)
        return hour is not None and hour.open(minute)

    def base(self, minutes: int, first: int, last: int, spare: bool) -> _Base | None:
        """Returns the merged cells of the minutes `first` to `last` without the first and the latest, from the cache if
        it can.
        """
        found = self.bases.get(minutes)
        if found is not None and (found.first < first or found.end > last or (spare and found.first == first)):
            found = None
        if found is None:
            hour = self.hours.get(first - first % HOUR)
            block = None if hour is None else hour.block_at(first)
            begin = first + 1 if block is None else max(first + 1, block.end)
            end = next((m for m in range(max(begin, last - _OPEN), last - 1) if self.open(m)), last - 1)
            if cells := list(self.cells(begin, end)):
                found = self.bases[minutes] = _Base(begin, end, merged(cells))
        return found


class MetricMinutes:
    """Minute cells of all event types. Minutes are numbered from 1970. `retention` (ms): how late an event may be."""

    def __init__(self, retention: int = 3_600_000) -> None:
        self._settle = retention + MINUTE
        self._apart = max(_APART, retention // MINUTE + 5)
        self._types: dict[str, _Type] = {}
        #: Cells that were revised when their quantiles could not be any more.
        self.unsettled = 0

    def revise(self, event_type: str, minute: int, cell: Cell, final_since: int | None) -> None:
        """The cell is the minute's from now on; None: it is not final, else since when (epoch ms)."""
        own = self._types.setdefault(event_type, _Type())
        hour = own.hours.setdefault(minute - minute % HOUR, Hour(minute - minute % HOUR))
        if not hour.revise(minute, cell, final_since):
            self.unsettled += 1
        own.changes = next(_changes)
        for minutes, base in list(own.bases.items()):
            if base.first <= minute < base.end:
                del own.bases[minutes]

    def types(self) -> list[str]:
        """Returns the event types that have events."""
        return list(self._types)

    def changes(self, event_type: str) -> int:
        """Returns a number that changes with every revised cell of the type and never repeats; 0: no cells."""
        own = self._types.get(event_type)
        return 0 if own is None else own.changes

    def figures(
        self, event_type: str, minutes: int, now_ms: int, *, remember: bool = False, spare: bool = False
    ) -> Figures | None:
        """Returns the figures of the last `minutes` minutes, 1 to 1440, the current one included; None if there are no
        events.

        `remember`: it will be asked for again soon, until `forget`. `spare`: there is time now to merge what would
        have to be merged when the minute is over.
        """
        own = self._types.get(event_type)
        if own is None:
            return None
        last = now_ms // MINUTE
        first = last - minutes + 1
        base = own.base(minutes, first, last, spare) if remember and minutes > 3 else None
        if base is None:
            cells = list(own.cells(first, last + 1))
        else:
            cells = [base.cell, *own.cells(first, base.first), *own.cells(base.end, last + 1)]
        if cells and not any(cell.users for cell in cells):  # the lesser half of a block is all there is
            cells = list(own.cells(first, last + 1, share=0.0))
        return figures(cells) if cells else None

    def forget(self, minutes: int) -> None:
        """Drops what was remembered for ranges of so many minutes."""
        for own in list(self._types.values()):
            own.bases.pop(minutes, None)

    def tidy(self, event_type: str, now_ms: int) -> None:
        """Makes blocks of what is old, and drops what is a day old. To be called for every type, once a minute."""
        own = self._types.get(event_type)
        if own is None:
            return
        now = now_ms // MINUTE
        for start, hour in list(own.hours.items()):
            if start + HOUR <= now - MINUTES + 1:
                del own.hours[start]
            elif start + HOUR <= now - max(_TENS, self._apart + _PATIENCE):
                hour.fold_whole()
            else:
                hour.fold(now - self._apart, now_ms - self._settle, now - self._apart - _PATIENCE)
        if not own.hours:
            del self._types[event_type]

    def prepare(self, event_type: str, now_ms: int) -> None:
        """Merges what questions about any number of minutes will want merged, as far as it will hardly change."""
        own = self._types.get(event_type)
        for hour in () if own is None else list(own.hours.values()):
            hour.prepare(now_ms // MINUTE - 1)

    def size(self, event_type: str) -> int:
        """The bytes that a type's sketches take."""
        own = self._types.get(event_type)
        if own is None:
            return 0
        bases = sum(len(base.cell.quantiles) + len(base.cell.users) for base in own.bases.values())
        return bases + sum(hour.size() for hour in own.hours.values())
