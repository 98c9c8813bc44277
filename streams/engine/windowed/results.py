"""How the cells of a windowed job are written: as results for whoever reads them, and as states for a restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from weir.schemas.times import to_rfc3339
from weir.schemas.windows import Window, WindowClosed
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.core.records import STATE, Record

#: Key and value of each result of a window, for (window start, its end, keys with what is said of them, final).
Write = Callable[[int, int, Sequence[tuple[Key, Any]], bool], Sequence[tuple[bytes, bytes]]]

_json = msgspec.json.Encoder(decimal_format="number").encode
_pack = msgspec.msgpack.Encoder().encode


class State(NamedTuple):
    """A cell as the changelog holds it. `end` is the last event's time in a session. `plain` None: it is no more."""

    start: int
    end: int
    key: Key
    plain: Any


_unpack = msgspec.msgpack.Decoder(State).decode


def state_bytes(start: int, end: int, key: Key, plain: Any) -> bytes:
    """A cell's state as the changelog holds it."""
    return _pack((start, end, key, plain))


def read_state(record: Record) -> State:
    """The state in a record of a changelog, or in the header of a result."""
    for name, value in record.headers() or ():
        if name == STATE and value is not None:
            return _unpack(value)
    return _unpack(record.value() or b"")


def cell_key(start: int, key: Key) -> bytes:
    """The key of a cell's record in a changelog of its own."""
    return _pack((start, key))


@lru_cache(maxsize=4096)
def window(start: int, end: int) -> Window:
    """The window as results name it."""
    return Window(to_rfc3339(start), to_rfc3339(end))


def result_key(start: int, key: Key) -> bytes:
    """The key of a result that `writer` writes: JSON, ["window start", key …]."""
    return _json((to_rfc3339(start), *key))


def writer(names: Sequence[str] | None) -> Write:
    """Writes results as JSON: the window, the key's parts by name (`names` None: as a list `key`), what was aggregated,
    and whether it is final.

    >>> writer(["page"])(0, 60_000, [(("home",), 3)], True)[0][1].decode()
    '{"window":{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:01:00Z"},"page":"home","count":3,"final":true}'
    """

    def write(start: int, end: int, cells: Sequence[tuple[Key, Any]], final: bool) -> list[tuple[bytes, bytes]]:
        bounds = window(start, end)
        written = []
        for key, result in cells:
            parts = {"key": key} if names is None else dict(zip(names, key, strict=True))
            values = result if isinstance(result, dict) else {"count": result}
            value = {"window": bounds, **parts, **values, "final": final}
            written.append((result_key(start, key), _json(value)))
        return written

    return write


def closed(start: int, end: int, partition: int, partitions: int, cells: int) -> tuple[bytes, bytes]:
    """Key and value of the record that says that a partition of the output has closed a window."""
    bounds = window(start, end)
    return _json((bounds.start, partition)), _json(WindowClosed(bounds, partition, partitions, cells))
