"""A table in RocksDB: what is larger than memory comfortably holds, and is there again after a restart.

Three layers, the upper ones first: what changed since the last flush, as states; what is being committed, as bytes (a
state that `merge` goes on with must not change what was handed out); what is committed, in RocksDB. Only the third
grows with the state. A cell's key there is its window's start, 8 bytes big endian, and its key as msgpack; its value is
the plain state as msgpack.

**Why metadata tells the state.** RocksDB records the metadata of the commit that it holds. If that is, byte for byte,
what Kafka has, nothing is read back. So no two commits with different cells may have the same metadata.
`MergeState.born` is when the table began, before its first commit: after a reset another time, so that what an earlier
life left on any host is not mistaken for this one's. In one life the commits follow on each other. A cell changes only
by a partial result, which makes `through` grow (`counted` not always: of several partials of one flush only the last
has the events), or by its window being forgotten, which follows from `horizons` and `open_from`, and those only grow.
So between two commits with the same metadata no cell changed. A worker that died between Kafka's commit and RocksDB's
write has recorded the commit before; RocksDB is never ahead, as it is written only when the commit is known. Keyed
state is all in window 0, and the same holds for it: it changes by an element, which is counted, or by event time, which
is in the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from weir.infra.log import get_logger
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.state.rocks_store import RocksStore

#: Keys of RocksDB to values; None: deleted.
Bytes = dict[bytes, bytes | None]

log = get_logger(__name__)

#: While a table is built again, so many cells may wait to be written.
PENDING = 50_000

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode
_unpack_sizes = msgspec.msgpack.Decoder(dict[int, int]).decode
_ABSENT, _GONE = object(), object()


class RocksTable:
    """One partition's cells, in `store`. `dump` makes a state plain, `load` the reverse; `key` is the type of keys."""

    def __init__(
        self,
        store: RocksStore,
        dump: Callable[[Any], Any],
        load: Callable[[Any], Any],
        key: Any = tuple[str, ...],
        pending: int = PENDING,
    ) -> None:
        self.unpack_key = msgspec.msgpack.Decoder(key).decode
        self.store, self.dump, self.load, self._limit = store, dump, load, pending
        self._windows: dict[int, RocksCells] = {}
        self._gone: set[int] = set()
        self._in_flight: tuple[str, list[Bytes], set[int], dict[int, int]] | None = None
        self._wanted: str | None = None
        self._pending: int | None = 0  # cells that changed since RocksDB was written; None: it holds what is committed

    def restore(self, metadata: str | None) -> bool:
        notes = self.store.open(metadata)
        sizes = {} if notes is None else _unpack_sizes(notes)
        self._windows = {start: RocksCells(self, start, size) for start, size in sizes.items()}
        self._wanted, self._pending = metadata, (0 if notes is None else None)
        if notes is not None:
            log.info("state.kept", folder=str(self.store.folder), cells=sum(sizes.values()))
        return notes is not None

    def restored(self) -> None:
        assert self._wanted is not None
        self.flush(self._wanted)
        self.committed()

    def windows(self) -> Collection[int]:
        return self._windows.keys()

    def cells(self, window: int) -> RocksCells:
        found = self._windows.get(window)
        if found is None:
            found = self._windows[window] = RocksCells(self, window, 0)
        return found

    def fetched(self, window: int, keys: Sequence[Key]) -> dict[Key, Any]:
        return self.cells(window).fetched(keys)

    def drop(self, window: int) -> None:
        if self._windows.pop(window).flushed:
            self._gone.add(window)

    def flush(self, metadata: str) -> None:
        assert self._in_flight is None, "one flush at a time"
        changes = [cells.flush() for cells in self._windows.values()]
        sizes = {start: cells.flushed for start, cells in self._windows.items() if cells.flushed}
        gone, self._gone = self._gone, set()
        self._in_flight = metadata, changes, gone, sizes

    def committed(self) -> None:
        if self._in_flight is not None:
            (metadata, changes, gone, sizes), self._in_flight = self._in_flight, None
            self._write(changes, gone, metadata, _pack(sizes))
            self._pending = None

    def close(self) -> None:
        self.store.close()

    def grown(self) -> None:
        """A cell was put. Until RocksDB holds a commit it may hold anything: then not all has to wait for one."""
        if self._pending is None or self._in_flight is not None:
            return
        self._pending += 1
        if self._pending >= self._limit:
            gone, self._gone, self._pending = self._gone, set(), 0
            self._write([cells.flush() for cells in self._windows.values()], gone, None, b"")

    def _write(self, changes: list[Bytes], gone: set[int], metadata: str | None, notes: bytes) -> None:
        self.store.write(chain.from_iterable(one.items() for one in changes), map(_prefix, gone), metadata, notes)
        for cells in self._windows.values():
            cells.written()


class RocksCells:
    """The cells of one window, of which `stored` are in RocksDB."""

    def __init__(self, table: RocksTable, start: int, stored: int) -> None:
        self._table, self._prefix, self._stored = table, _prefix(start), stored
        self.flushed = stored  # how many there were at the last flush
        self._changed: dict[Key, Any] = {}
        self._in_flight: Bytes = {}
        self._deleted = 0  # how many of `_changed` are _GONE
        self._replacing = 0  # how many of `_changed` are among the flushed ones too
        self._unknown: list[Key] = []  # those of `_changed` of which that is not known yet

    def get(self, key: Key, default: Any = None) -> Any:
        state = self._changed.get(key, _ABSENT)
        if state is not _ABSENT:
            return default if state is _GONE else state
        if not self.flushed:
            return default
        raw = self._raw(key)
        found = self._in_flight[raw] if raw in self._in_flight else self._table.store.get(raw) if self._stored else None
        return default if found is None else self._table.load(_unpack(found))

    def __getitem__(self, key: Key) -> Any:
        state = self.get(key, _ABSENT)
        if state is _ABSENT:
            raise KeyError(key)
        return state

    def __setitem__(self, key: Key, state: Any) -> None:
        before = self._changed.get(key, _ABSENT)
        if before is _GONE:
            self._deleted -= 1
        elif before is _ABSENT and self.flushed:
            self._unknown.append(key)
        self._changed[key] = state
        self._table.grown()

    def __delitem__(self, key: Key) -> None:
        if self.pop(key, _ABSENT) is _ABSENT:
            raise KeyError(key)

    def pop(self, key: Key, default: Any) -> Any:
        state = self.get(key, _ABSENT)
        if state is _ABSENT:
            return default
        self._deleted += 1
        self[key] = _GONE
        return state

    def fetched(self, keys: Sequence[Key]) -> dict[Key, Any]:
        """See Table: what is there of these keys becomes part of what changed, in one go."""
        changed = self._changed
        missing = [key for key in keys if key not in changed] if self.flushed else []
        if self._deleted:
            for key in keys:
                if changed.get(key) is _GONE:  # it is about to be put
                    del changed[key]
                    self._deleted -= 1
        if missing:
            load = self._table.load
            for key, raw in zip(missing, self._below(missing), strict=True):
                if raw is not None and key not in changed:
                    changed[key] = load(_unpack(raw))
                    self._replacing += 1
        return changed

    def __len__(self) -> int:
        if self._unknown:
            self._replacing += sum(raw is not None for raw in self._below(self._unknown))
            self._unknown = []
        return self.flushed + len(self._changed) - self._deleted - self._replacing

    def __iter__(self) -> Iterator[Key]:
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[Key, Any]]:
        """Every key with its state, once, in no order."""
        changed, in_flight, skip = self._changed, self._in_flight, len(self._prefix)
        load, unpack_key = self._table.load, self._table.unpack_key
        stored = self._table.store.scan(self._prefix, self._stored) if self._stored else ()
        for raw, value in chain(((raw, value) for raw, value in stored if raw not in in_flight), in_flight.items()):
            key = unpack_key(raw[skip:])
            if value is not None and key not in changed:
                yield key, load(_unpack(value))
        yield from changed.items() if not self._deleted else [one for one in changed.items() if one[1] is not _GONE]

    def flush(self) -> Bytes:
        """Returns the changes since the last flush, as bytes; from now on they belong to the layer below."""
        self.flushed = len(self)
        dump, raw = self._table.dump, self._raw
        self._in_flight = {
            raw(key): None if state is _GONE else _pack(dump(state)) for key, state in self._changed.items()
        }
        self._changed, self._deleted, self._replacing = {}, 0, 0
        return self._in_flight

    def written(self) -> None:
        """Called once the flushed changes are in RocksDB."""
        self._in_flight, self._stored = {}, self.flushed

    def _raw(self, key: Key) -> bytes:
        return self._prefix + _pack(key)

    def _below(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Returns the flushed values of these keys."""
        raws = [self._raw(key) for key in keys]
        if not self._stored:
            return [self._in_flight.get(raw) for raw in raws]
        found = self._table.store.get_many(raws)
        if not self._in_flight:
            return found
        get = self._in_flight.get
        return [get(raw, below) for raw, below in zip(raws, found, strict=True)]


def _prefix(start: int) -> bytes:
    """A window's start so that bytes have the order of times, also of those before 1970."""
    return (start + (1 << 63)).to_bytes(8, "big")
