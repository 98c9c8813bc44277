"""Partial results on their way from the combining stage to the merging one (Flink: local-global aggregation).

One flush of a source partition gives one partial, or several where it is large, to each output partition that it has
cells for, and to all of them where windows close or are new: the watermark travels in it. Which output partition owns a
key is CRC-32 of the key modulo their number: the same in every process and for ever, which `hash()` is not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from weir.streams.engine.aggregates.aggregation import Key

Piece = tuple[int, list[Key], list[Any]]

#: How much a partial holds at most, in cells' weights: 2 000 keys of 1 024 characters are 8 MB at most, and their plain
#: states 5 MB, which the topic takes.
ROOM = 2000
#: How many keys' owners one task remembers: some 20 MB of keys of the usual length.
REMEMBERED = 1 << 17


class Partial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The counts of one source partition since its last flush, for one output partition.

    `windows` are the starts of the windows that this source partition has cells for and had none before, whichever
    output partition owns them, so that each of them closes the same windows. `cells` are (window start, keys, their
    plain states); sessions are all in window 0, as lists of [first, last, plain state]. `events` is how many events are
    in this and the partials before it of the same flush. `watermark` and `horizon` as in `watermarks`.
    `backlog`: how long (ms) it will take to process what the source partition has left.
    """

    source: int
    sources: int
    watermark: int | None
    horizon: int | None
    windows: list[int]
    cells: list[Piece]
    events: int
    backlog: int


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Partial).decode


def owner(key: Key, partitions: int) -> int:
    """The output partition that owns the key.

    >>> owner(("a", "b"), 4)
    1
    """
    return zlib.crc32("\0".join(key).encode()) % partitions


class Owners(dict[Key, int]):
    """`owner` for one number of partitions, with a cache of recent keys: hashing a key takes eight times as long as
    looking it up.
    """

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._partitions = partitions

    def __missing__(self, key: Key) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        found = self[key] = owner(key, self._partitions)
        return found


class Share:
    """The cells of one flush for one output partition, in groups that each fit one partial."""

    def __init__(self) -> None:
        self.groups: list[list[Piece]] = [[]]
        self.events = 0
        self._room = ROOM

    def add(self, starts: Iterable[int], keys: list[Key], plain: list[Any], weigh: Callable[[Any], int] | None) -> None:
        """Puts cells of these windows into the groups, of which none holds more than ROOM (or a single cell)."""
        for piece, weight in _pieces(keys, plain, weigh):
            for start in starts:
                if weight > self._room and self.groups[-1]:
                    self.groups.append([])
                    self._room = ROOM
                self.groups[-1].append((start, *piece))
                self._room -= weight


def split(
    cells: Mapping[int, Mapping[Key, Any]],
    starts: Callable[[int], Sequence[int]],
    events: Callable[[Iterable[Any]], int],
    weigh: Callable[[Any], int] | None,
    cut: Callable[[Any], Iterable[Any]] | None,
    owners: Owners,
    partitions: int,
) -> list[Share]:
    """Each output partition's share of `cells`, which are pane start to key to plain state. `starts` gives the windows
    of a pane, `events` how many events are in plain states, `weigh` the weight of one; None: all weigh 1. `cut` makes
    several of a plain state that may be too large for one partial; None: none is.
    """
    shares = [Share() for _ in range(partitions)]
    for pane in sorted(cells):
        keys: list[list[Key]] = [[] for _ in range(partitions)]
        values: list[list[Any]] = [[] for _ in range(partitions)]
        for key, value in cells[pane].items():
            partition = owners[key]
            if cut is None:
                keys[partition].append(key)
                values[partition].append(value)
            else:
                parts = list(cut(value))
                keys[partition] += [key] * len(parts)
                values[partition] += parts
        for partition, share in enumerate(shares):
            if keys[partition]:
                share.events += events(values[partition])
                share.add(starts(pane), keys[partition], values[partition], weigh)
    return shares


def _pieces(
    keys: list[Key], plain: list[Any], weigh: Callable[[Any], int] | None
) -> Iterable[tuple[tuple[list[Key], list[Any]], int]]:
    """The cells in pieces that weigh no more than ROOM each (or are a single cell), with their weights."""
    if weigh is None:
        for at in range(0, len(keys), ROOM):
            yield (keys[at : at + ROOM], plain[at : at + ROOM]), len(keys[at : at + ROOM])
        return
    begin = total = 0
    for at, one in enumerate(plain):
        weight = weigh(one)
        if total and total + weight > ROOM:
            yield (keys[begin:at], plain[begin:at]), total
            begin, total = at, 0
        total += weight
    yield (keys[begin:], plain[begin:]), total
