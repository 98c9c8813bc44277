"""The events of one client and key in order of time, packed: bytes, not objects.

A series is a list of chunks, a chunk up to 64 events one behind the other. Most events come in order, and are appended
to the last chunk; one that comes late is put in its place, which copies its chunk and no more. The oldest go by the
chunk. What is looked at is copied first, so that it may be written out later, while events arrive.

Pure, and of one thread.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

#: Where an event is in its series: its time in epoch milliseconds, and among those of one time a number by which the
#: event is known, the same whenever it is read again.
Place = tuple[int, int]
#: Before every event.
NOWHERE: Place = (-1, -1)
#: A chunk has no more events, and where it has several no more bytes.
_EVENTS, _BYTES = 64, 4096
#: What a chunk takes besides its own length, in bytes: the object, and its place in the list.
CHUNK_COST = 64

#: A chunk begins with the number of its events and the place of the last.
_HEAD = struct.Struct("<HqQ")
#: An event begins with its place, and the lengths of its id and its value.
_EVENT = struct.Struct("<qQHI")
_head, _event, _first = _HEAD.unpack_from, _EVENT.unpack_from, struct.Struct("<qQ").unpack_from
_START = _HEAD.size

_Chunk = bytes | bytearray


class Selection(NamedTuple):
    """Events in order: `parts` are runs of packed ones, `last` is the place of the last, and `more` says whether others
    follow."""

    parts: list[bytes]
    events: int
    size: int
    last: Place
    more: bool


def pack(place: Place, event_id: bytes, value: bytes) -> bytes:
    """An event; `event_id` and `value` are JSON."""
    return _EVENT.pack(*place, len(event_id), len(value)) + event_id + value


def unpack(part: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The events of a part: id, time and value.

    >>> list(unpack(pack((60_000, 7), b'"a"', b"1.50")))
    [(b'"a"', 60000, b'1.50')]
    """
    at, end = 0, len(part)
    while at < end:
        time, _, id_size, value_size = _event(part, at)
        at += _EVENT.size
        middle = at + id_size
        event_id = part[at:middle]
        at = middle + value_size
        yield event_id, time, part[middle:at]


class Series:
    """Events of one key. `dropped` are gone because they were the oldest, and `floor` is where the last of them was.

    `due` is for whoever decides what is dropped: the time of the first event, as far as that one has heard.
    """

    __slots__ = ("_chunks", "dropped", "due", "floor")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self.dropped = 0
        self.floor = NOWHERE
        self.due: int | None = None

    @property
    def first(self) -> int | None:
        """The time of the first event that is held."""
        return _first(self._chunks[0], _START)[0] if self._chunks else None

    def add(self, place: Place, packed: bytes) -> int:
        """Takes an event; by how many bytes the series has grown: 0 where it was there, or is older than the floor."""
        if place <= self.floor:
            if place != self.floor:
                self.dropped += 1
            return 0
        chunks = self._chunks
        if not chunks:
            return self._begin(place, packed)
        tail = chunks[-1]
        count, time, number = _head(tail)
        if place <= (time, number):
            return self._insert(place, packed)
        if count >= _EVENTS or len(tail) + len(packed) > _BYTES:
            chunks[-1] = bytes(tail)
            return self._begin(place, packed)
        if not isinstance(tail, bytearray):
            tail = chunks[-1] = bytearray(tail)
        tail += packed
        _HEAD.pack_into(tail, 0, count + 1, *place)
        return len(packed)

    def drop(self) -> tuple[int, int]:
        """Lets the oldest chunk go: how many events, how many bytes."""
        chunk = self._chunks.pop(0)
        count, time, number = _head(chunk)
        self.dropped += count
        self.floor = time, number
        return count, len(chunk) + CHUNK_COST

    def select(self, after: Place, before: Place, most: int, most_bytes: int) -> Selection:
        """The events behind `after` and before `before`: `most` of them, of about `most_bytes` together, one at least
        where there is one."""
        parts: list[bytes] = []
        events = size = 0
        last = after
        for at in range(bisect_right(self._chunks, after, key=_last_place), len(self._chunks)):
            chunk = self._chunks[at]
            count, *end = _head(chunk)
            if _first(chunk, _START) > after and tuple(end) < before and count <= most - events:
                if size + len(chunk) > most_bytes and events:
                    return Selection(parts, events, size, last, True)
                found, start, stop, last, more = count, _START, len(chunk), (end[0], end[1]), False
            else:
                found, start, stop, place, more = _within(chunk, after, before, most - events)
                last = place or last
            if found:
                parts.append(bytes(chunk[start:stop]))
                events += found
                size += stop - start
            if more or tuple(end) >= before:
                return Selection(parts, events, size, last, more)
        return Selection(parts, events, size, last, False)

    def _begin(self, place: Place, packed: bytes) -> int:
        self._chunks.append(bytearray(_HEAD.pack(1, *place) + packed))
        return _START + len(packed) + CHUNK_COST

    def _insert(self, place: Place, packed: bytes) -> int:
        at = bisect_left(self._chunks, place, key=_last_place)
        chunk = self._chunks[at]
        found, start = next((found, start) for found, start, _ in _walk(chunk) if found >= place)
        if found == place:
            return 0
        count, *end = _head(chunk)
        grown = _HEAD.pack(count + 1, *end) + chunk[_START:start] + packed + chunk[start:]
        if count < _EVENTS and len(grown) <= _BYTES:
            self._chunks[at] = grown
            return len(packed)
        self._chunks[at : at + 1] = _halves(grown)
        return len(packed) + _START + CHUNK_COST


def _last_place(chunk: _Chunk) -> Place:
    _, time, number = _head(chunk)
    return time, number


def _walk(chunk: _Chunk) -> Iterator[tuple[Place, int, int]]:
    """Yields each event's place, and where it starts and ends."""
    at, end = _START, len(chunk)
    while at < end:
        time, number, id_size, value_size = _event(chunk, at)
        start, at = at, at + _EVENT.size + id_size + value_size
        yield (time, number), start, at


def _within(chunk: _Chunk, after: Place, before: Place, most: int) -> tuple[int, int, int, Place | None, bool]:
    """Of a chunk's events those between the two places: how many, where they start and end, the last one's place, and
    whether there are more than `most`."""
    found, first, stop = 0, _START, _START
    last: Place | None = None
    for place, _, end in _walk(chunk):
        if place <= after:
            first = stop = end
            continue
        if place >= before:
            break
        if found == most:
            return found, first, stop, last, True
        found, last, stop = found + 1, place, end
    return found, first, stop, last, False


def _halves(chunk: _Chunk) -> tuple[bytes, bytes]:
    """Two chunks of one with two events at least."""
    count, *end = _head(chunk)
    half = count // 2
    place, _, stop = next(islice(_walk(chunk), half - 1, None))
    return _HEAD.pack(half, *place) + chunk[_START:stop], _HEAD.pack(count - half, *end) + chunk[stop:]
