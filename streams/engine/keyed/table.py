"""One partition's keyed state: a value and timers per key, what `process` sees of them, and when they fire and expire.

The table holds bytes, the very bytes of the changelog. `Context.state` is decoded when it is asked for and encoded when
it was assigned, so an object that `process` has in its hands is never one that the table or a flush holds: what it does
with it has no effect unless it assigns it, and what a refused element did is undone by forgetting it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.records import FRAME, Bulk, Produce, Record, largest
from weir.streams.engine.input.source import MAX_RECORD_KEY
from weir.streams.engine.keyed.context import UNREAD, Context
from weir.streams.engine.keyed.spec import KeyedSpec
from weir.streams.engine.state.tables import StateTable

E = TypeVar("E")
S = TypeVar("S")

#: A heap is cleared of what was moved once it is twice as long as what counts in it, and this.
MOVED = 1 << 10

_msgpack = msgspec.msgpack.Encoder().encode


class KeyedCell(NamedTuple):
    """The entry of one key: its state, its timers (name to epoch ms), and when it was last written (epoch ms)."""

    state: Any
    timers: dict[str, int] | None
    touched: int


class KeyedTable(Generic[E, S]):
    """One partition of `job`, in window 0 of `table`, of `share` keys at most. `mark` is the watermark (epoch ms); -1
    while unknown. `dropped`: how many keys had to go for want of room, since the beginning.
    """

    def __init__(self, job: KeyedSpec[E, S], partition: int, table: StateTable, share: float) -> None:
        self._job, self._partition, self._table, self._share = job, partition, table, share
        self._cells: Any = table.cells(0)  # key to bytes
        self._decode = msgspec.msgpack.Decoder(tuple[job.state | None, dict[str, int] | None, int]).decode  # type: ignore[name-defined]
        self._head = msgspec.msgpack.Decoder(tuple[msgspec.Raw, dict[str, int] | None, int]).decode
        self._context: Context[S] = Context(self._state, job.outputs, job.on_timer is not None, job.max_skew)
        self._timed = job.timed
        self._latest: float = math.inf
        self._limit = largest(job.changelog) - FRAME - 4 * MAX_RECORD_KEY
        self._dirty: dict[str, None] = {}  # a dict for its order: the same input gives the same batch
        self._in_flight: dict[str, None] = {}
        self._timers: dict[str, dict[str, int]] = {}
        self._alarms: list[tuple[int, str, str]] = []  # heap of (when, key, name), also of timers that were moved since
        self._cleared = 0
        self._expiring: list[tuple[int, str]] = []  # heap of (when it may expire, key), also of those that have changed
        self._watched: dict[str, int] = {}  # where there is a time to live: each key's place there, not later than true
        self._due: float = math.inf  # when the first of both heaps is to be looked at
        self.mark = -1
        self.dropped = 0

    def kept(self, metadata: str | None) -> bool:
        """Whether what was committed with this metadata is here, so that no changelog is needed. Called once, first."""
        found = self._table.restore(metadata)
        self._cells = self._table.cells(0)
        if found and (self._job.ttl is not None or self._job.on_timer is not None):
            self._schedule()  # else no key expires, and none has a timer: there may be many that need not be read
        return found

    def restore(self, records: Iterable[Record]) -> int:
        """Takes the changelog; the latest per key wins, a tombstone deletes. Gives the number of keys."""
        cells = self._cells
        for record in records:
            key, value = (record.key() or b"").decode(), record.value()
            if value is None:
                cells.pop(key, None)
            else:
                cells[key] = value
        self._table.restored()
        self._schedule()
        return len(cells)

    def _schedule(self) -> None:
        """Takes up all keys' timers, and when they expire; drops those that there is no room for any more."""
        for key, cell in self._cells.items():
            _, timers, touched = self._head(cell)
            if timers:
                self._timers[key] = timers
                self._alarms += [(at, key, name) for name, at in timers.items()]
            if self._job.ttl is not None:
                when = self._watched[key] = touched + self._job.ttl
                self._expiring.append((when, key))
        heapify(self._alarms)
        heapify(self._expiring)
        self._cleared = len(self._alarms)
        self._make_room()
        self._look()

    def begin(self, latest: int, record: Callable[[Any], Record] | None = None) -> None:
        """A slice is about to be processed. `latest` (epoch ms): how far ahead of the clock event time may be; `record`
        makes a record of what `run` is told that an element came in, where that is none.
        """
        self._context._latest = latest
        if not self._timed:  # else nothing later gets here
            self._latest = latest
        if record is not None:
            self._context._of_rows(record)

    def run(
        self,
        elements: Sequence[E],
        times: Sequence[int],
        keys: Sequence[str],
        origins: Sequence[Any],
        own: int,
        limit: float,
        refuse: Callable[[int, PoisonError], None],
    ) -> int:
        """Processes elements in order; gives how many. Every event pays for this method.

        Before each, the watermark comes to the lesser of its timestamp and `limit` (of the other sources), and what is
        due then fires. `origins` are what each came in. `own` is how far the source itself was. `refuse` is called with
        the place of an element that `process` refuses, and why.
        """
        limit = min(limit, self._latest)
        context, process, mark = self._context, self._job.process, self.mark
        if self._due <= mark:  # only after a restore with a shorter time to live
            self._fire()
        refused = 0
        for at, (element, timestamp, key, origin) in enumerate(zip(elements, times, keys, origins, strict=True)):
            if timestamp > own:
                own = timestamp
                if mark < own and mark < limit:
                    mark = self.mark = context.watermark = own if own < limit else int(limit)
                    if self._due <= mark:
                        self._fire()
            context.key, context.timestamp, context._state, context._from = key, timestamp, UNREAD, origin
            kept = len(context._out)
            try:
                process(context, element)
                if context._written or context._changes:
                    self._apply(key, timestamp)
            except PoisonError as e:
                refused += 1
                del context._out[kept:]
                context._written = False
                context._changes.clear()
                refuse(at, e)
                continue
            if self._due <= mark:
                self._fire()
        return len(elements) - refused

    def advance(self, mark: int) -> None:
        """Event time has come to `mark`: timers fire in order of time, then key, then name; old keys are dropped."""
        if mark > self.mark:
            self.mark = self._context.watermark = mark
            if self._due <= mark:
                self._fire()

    @property
    def changed(self) -> bool:
        """Whether there is anything to be written."""
        return bool(self._dirty or self._context._out)

    def take(self) -> tuple[list[Produce], Bulk]:
        """Returns the emitted records, and the changed keys for the changelog."""
        out, self._context._out = self._context._out, []
        self._in_flight, self._dirty = self._dirty, {}
        get = self._cells.get
        records = [(key.encode(), get(key)) for key in self._in_flight]
        return out, Bulk(self._job.changelog.name, self._partition, records)

    def flush(self, metadata: str) -> None:
        """Called when the changes that `take` returned last are about to be committed, with this metadata."""
        self._table.flush(metadata)

    def committed(self) -> None:
        """Drops the in-flight changes once the flush's transaction has committed."""
        self._in_flight = {}
        self._table.committed()

    def close(self) -> None:
        """Lets go of what it holds outside memory."""
        self._table.close()

    def pending(self, key: str) -> bool:
        """Whether the key has changes that are not committed, as far as is known."""
        return key in self._dirty or key in self._in_flight

    def cell(self, key: str) -> KeyedCell | None:
        """Returns the key's entry, including uncommitted changes; None if there is none."""
        raw = self._cells.get(key)
        return None if raw is None else KeyedCell(*self._decode(raw))

    def __len__(self) -> int:
        return len(self._cells)

    def _state(self, key: str) -> S | None:
        raw = self._cells.get(key)
        return None if raw is None else self._decode(raw)[0]

    def _apply(self, key: str, timestamp: int) -> None:
        """Puts what the context holds into the table. Raises PoisonError, and does nothing, where it is too large."""
        context = self._context
        state, changes, timers = context.state, context._changes, self._timers.get(key)
        when: int | None = None
        if changes:
            timers = {name: at for name, at in {**(timers or {}), **changes}.items() if at is not None}
        if state is None and not timers:
            if self._cells.pop(key, None) is not None:
                self._watched.pop(key, None)
                self._dirty[key] = None
        else:
            touched = max(timestamp, self.mark) if self._timed else min(max(timestamp, self.mark), int(self._latest))
            raw = _msgpack((state, timers or None, touched))
            if len(raw) > self._limit:
                raise PoisonError(
                    Reason.TOO_LARGE,
                    f"the state of its key would have {len(raw)} bytes, more than the limit of {self._limit}",
                )
            self._cells[key] = raw
            self._dirty[key] = None
            if self._job.ttl is not None:
                when = touched + self._job.ttl
        if changes:
            self._set(key, timers or {}, changes)
        context._written = False
        if when is not None and self._watched.get(key, math.inf) > when:
            self._watch(when, key)
            self._make_room()

    def _set(self, key: str, timers: dict[str, int], changes: dict[str, int | None]) -> None:
        if timers:
            self._timers[key] = timers
        else:
            self._timers.pop(key, None)
        for name, at in changes.items():
            if at is not None:
                heappush(self._alarms, (at, key, name))
                self._due = min(self._due, at)
        changes.clear()
        if len(self._alarms) > 2 * self._cleared + MOVED:
            self._alarms = [(at, key, name) for key, own in self._timers.items() for name, at in own.items()]
            heapify(self._alarms)
            self._cleared = len(self._alarms)

    def _watch(self, when: int, key: str) -> None:
        self._watched[key] = when
        heappush(self._expiring, (when, key))
        self._due = min(self._due, when)
        if len(self._expiring) > 2 * len(self._watched) + MOVED:
            self._expiring = [(when, key) for key, when in self._watched.items()]
            heapify(self._expiring)

    def _look(self) -> None:
        self._due = min(
            self._alarms[0][0] if self._alarms else math.inf, self._expiring[0][0] if self._expiring else math.inf
        )

    def _fire(self) -> None:
        mark = self.mark
        while self._alarms and self._alarms[0][0] <= mark:
            at, key, name = heappop(self._alarms)
            if self._timers.get(key, {}).get(name) == at:
                self._alarm(at, key, name)
        while self._expiring and self._expiring[0][0] <= mark:
            self._expire_first()
        self._look()

    def _alarm(self, at: int, key: str, name: str) -> None:
        if self._job.on_timer is None:
            raise EngineError(
                f"job {self._job.name} has no on_timer, but its state holds timer {name!r} of key {key!r}: give the "
                f"job an on_timer, or run `weir reset {self._job.name}`"
            )
        context = self._context
        context.key, context.timestamp, context._state, context._done_at = key, at, UNREAD, at
        context._from = None
        context._changes[name] = None  # unless it is set again
        try:
            self._job.on_timer(context, name)
            self._apply(key, at)
        except PoisonError as e:  # there is no element to be set aside
            raise EngineError(f"timer {name!r} of key {key!r} cannot be processed: {e}") from e
        finally:
            context._done_at = -1

    def _expire_first(self) -> None:
        """Drops the key that expires first, or finds that another does. A timer that is still to come keeps a key."""
        assert self._job.ttl is not None
        when, key = heappop(self._expiring)
        if self._watched.get(key) != when:
            return
        _, timers, touched = self._head(self._cells.get(key))
        # When a timer fires that is a write: it cannot expire sooner after that than this.
        if (true := max([touched, *(timers or {}).values()]) + self._job.ttl) > when:
            self._watch(true, key)
        else:
            del self._cells[key], self._watched[key]
            self._timers.pop(key, None)
            self._dirty[key] = None

    def _make_room(self) -> None:
        """Drops what expires first where there are more keys than there may be."""
        before = len(self._watched)
        while len(self._watched) > self._share:
            self._expire_first()
        self.dropped += before - len(self._watched)
