"""Partial results on their way from the combining stage to the merging one (Flink: local-global aggregation).

One flush of a source partition gives one partial, or several where it is large, to every output partition, also to
those that get no cells: the watermark travels in it. Which output partition owns a key is CRC-32 of the key modulo
their number: the same in every process and for ever, which `hash()` is not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Key = tuple[str, ...]
Piece = tuple[int, list[Key], list[Any]]

#: How many cells a partial holds at most. 2 000 cells of two 128-character ids are 2 MB at most: the topic takes them.
CELLS = 2000


class Partial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one source partition has counted since its last flush, for one output partition.

    `windows` are the starts of all windows that any output partition gets cells for, so that each of them closes the
    same windows. `cells` are (window start, keys, their aggregates). `watermark` and `horizon` as in `watermarks`.
    """

    source: int
    sources: int
    watermark: int | None
    horizon: int | None
    windows: list[int]
    cells: list[Piece]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Partial).decode


def owner(key: Key, partitions: int) -> int:
    """The output partition that owns the key.

    >>> owner(("a", "b"), 4)
    1
    """
    return zlib.crc32("\0".join(key).encode()) % partitions


def split(
    source: int,
    sources: int,
    watermark: int | None,
    horizon: int | None,
    counts: Mapping[int, Mapping[Key, Any]],
    partitions: int,
) -> Iterator[tuple[int, Partial]]:
    """Partials for each output partition: `counts` is window start to key to aggregate.

    Of several for one partition only the last says how far event time has come: what closes a window follows all that
    the flush has for it.
    """
    windows = sorted(counts)
    cells: list[list[Piece]] = [[] for _ in range(partitions)]
    for window in windows:
        keys: list[list[Key]] = [[] for _ in range(partitions)]
        values: list[list[Any]] = [[] for _ in range(partitions)]
        for key, value in counts[window].items():
            partition = owner(key, partitions)
            keys[partition].append(key)
            values[partition].append(value)
        for partition in range(partitions):
            for at in range(0, len(keys[partition]), CELLS):
                piece = window, keys[partition][at : at + CELLS], values[partition][at : at + CELLS]
                cells[partition].append(piece)
    for partition, own in enumerate(cells):
        *before, last = _grouped(own)
        for group in before:
            yield partition, Partial(source, sources, None, None, [], group)
        yield partition, Partial(source, sources, watermark, horizon, windows, last)


def _grouped(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces in groups that together hold no more than CELLS; at least one group."""
    groups: list[list[Piece]] = [[]]
    room = CELLS
    for piece in pieces:
        if room < len(piece[1]):
            groups.append([])
            room = CELLS
        groups[-1].append(piece)
        room -= len(piece[1])
    return groups
