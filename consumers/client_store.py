"""The in-memory database of monitoring: what clients' CUMULATIVE events come to, and their TIME-SERIES events in order.

Totals are small, and all of them are held. Events of series are held up to a number of bytes; beyond it the oldest by
their own time go, a chunk of up to 64 of a key at a time, and each series says how many of it are gone.

Pure, and of one thread. Measured on 2026-11-21 with `python -m benchmarks.client_store`: an event with a UUID and four
digits, 42 bytes, takes 66 bytes of memory in a long series (as a dict in a list: 378), 73 where events come out of
order, and 590 as the only one of its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice

import msgspec

from consumers.series import Place, Selection, Series, unpack
from consumers.sorted_names import SortedNames
from schemas.monitoring import EventType

#: What one entry in the queue of series takes, in bytes: they are limited with the events.
_QUEUED = 160
#: Bytes of events in one page, about.
_PAGE_BYTES = 4 << 20
_EVENT = b'{"event_id":%b,"event_timestamp":%d,"event_value":%b}'


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How far a dump has come: behind `place` in the series of `key`, or behind all of that key where it is None."""

    key: str
    place: Place | None = None


@dataclass(frozen=True)
class Query:
    """Which of a client's data: events from `start` to before `end` (epoch milliseconds), of one key or of all, from a
    cursor on; `limit` counts events, and a key without any as one. A total is of all times, and is always in."""

    start: int = 0
    end: int = 1 << 62
    key: str | None = None
    limit: int = 1000
    cursor: Cursor | None = None


@dataclass(frozen=True)
class Page:
    """A page of a dump, as it was when it was asked for; `next` is where the rest begins."""

    parts: list[tuple[str, bytes | _Events]]
    next: Cursor | None

    def pieces(self) -> Iterator[bytes]:
        """The data as JSON, piece by piece, none longer than a few events: it takes a microsecond per event."""
        before = b"{"
        for key, part in self.parts:
            yield before + msgspec.json.encode(key) + b":"
            before = b","
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.pieces()
        yield b"{}" if before == b"{" else b"}"


@dataclass(frozen=True)
class _Events:
    """Some of a series' events. `dropped` older ones are gone, the latest of them is of `until`."""

    chosen: Selection
    dropped: int
    until: int

    def pieces(self) -> Iterator[bytes]:
        gone = b'"truncated":{"events":%d,"until":%d},' % (self.dropped, self.until) if self.dropped else b""
        before = b'{"event_type":"TIME-SERIES",' + gone + b'"events":['
        for part in self.chosen.parts:
            yield before + b",".join(
                _EVENT % (event_id, time, value) for event_id, time, value in unpack(part)
            )  # fmt: skip
            before = b","
        yield b"]}" if before == b"," else before + b"]}"


class _Client:
    """A client's keys: a total as it is shown, or a series."""

    __slots__ = ("entries", "names")

    def __init__(self) -> None:
        self.entries: dict[str, bytes | Series] = {}
        self.names = SortedNames()


class ClientStore:
    """What is known of all clients. Events of series take `limit` bytes at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._clients: dict[str, _Client] = {}
        self._names = SortedNames()
        #: The series by the time of their first events. An entry that its series has no use for any more stays until
        #: its turn comes.
        self._queue: list[tuple[int, int, Series]] = []
        self._numbers = count()
        self._keys = self._events = self._bytes = self._dropped = 0

    def total(self, client_id: str, key: str, shown: bytes) -> None:
        """What the CUMULATIVE events of a client's key come to, in place of what was said before."""
        entries = self._entries(client_id, key)
        held = entries.get(key)
        if isinstance(held, Series):  # a job that has lost its state may have changed its mind; totals win
            while held.first is not None:
                self._drop(held)
        entries[key] = shown

    def event(self, client_id: str, key: str, place: Place, packed: bytes) -> None:
        """A TIME-SERIES event, as `consumers.series.pack` gives it; one that is there already changes nothing."""
        entries = self._entries(client_id, key)
        series = entries.get(key)
        if series is None:
            series = entries[key] = Series()
        elif isinstance(series, bytes):
            return
        dropped = series.dropped
        grown = series.add(place, packed)
        if not grown:
            self._dropped += series.dropped - dropped
            return
        self._events += 1
        self._bytes += grown
        if series.due is None or place[0] < series.due:
            self._expect(series, place[0])
        while self._bytes > self._limit:
            self._drop_oldest()

    def kind(self, client_id: str, key: str) -> EventType | None:
        """Of which kind a client's key is; None where nobody has heard of it."""
        client = self._clients.get(client_id)
        entry = None if client is None else client.entries.get(key)
        if entry is None:
            return None
        return EventType.CUMULATIVE if isinstance(entry, bytes) else EventType.TIME_SERIES

    def clients(self, after: str | None, limit: int) -> tuple[list[tuple[str, int]], bool]:
        """Clients in order of their ids, each with the number of its keys, and whether there are more."""
        found = list(islice(self._names.since(after or "", after=after is not None), limit + 1))
        return [(name, len(self._clients[name].entries)) for name in found[:limit]], len(found) > limit

    def dump(self, client_id: str, query: Query) -> Page | None:
        """A page of a client's data; None where nobody has heard of the client.

        Through all pages, whatever comes meanwhile: what was there at the first, and is not dropped, comes exactly
        once, in order of the keys and of time.
        """
        client = self._clients.get(client_id)
        if client is None:
            return None
        parts: list[tuple[str, bytes | _Events]] = []
        left, room = query.limit, _PAGE_BYTES
        for key in _keys(client, query):
            if left <= 0 or room <= 0:
                return Page(parts, Cursor(parts[-1][0]))
            entry = client.entries[key]
            if isinstance(entry, bytes):
                parts.append((key, entry))
                left, room = left - 1, room - len(entry)
                continue
            after = (query.start, -1)
            if query.cursor is not None and query.cursor.key == key and query.cursor.place is not None:
                after = max(after, query.cursor.place)
            chosen = entry.select(after, (query.end, -1), left, room)
            parts.append((key, _Events(chosen, entry.dropped, entry.floor[0])))
            if chosen.more:
                return Page(parts, Cursor(key, chosen.last))
            left, room = left - max(1, chosen.events), room - chosen.size
        return Page(parts, None)

    def facts(self) -> dict[str, int]:
        """How much is held: `clients`, `keys`, `events` of series and their `bytes`; and how many were `dropped`."""
        return {
            "clients": len(self._clients),
            "keys": self._keys,
            "events": self._events,
            "bytes": self._bytes,
            "dropped": self._dropped,
        }

    def _entries(self, client_id: str, key: str) -> dict[str, bytes | Series]:
        client = self._clients.get(client_id)
        if client is None:
            client = self._clients[client_id] = _Client()
            self._names.add(client_id)
        if key not in client.entries:
            client.names.add(key)
            self._keys += 1
        return client.entries

    def _expect(self, series: Series, time: int) -> None:
        series.due = time
        heappush(self._queue, (time, next(self._numbers), series))
        self._bytes += _QUEUED

    def _drop_oldest(self) -> None:
        time, _, series = heappop(self._queue)
        self._bytes -= _QUEUED
        if series.due != time:
            return
        series.due = None
        if series.first is not None:
            self._drop(series)
            if (first := series.first) is not None:
                self._expect(series, first)

    def _drop(self, series: Series) -> None:
        events, size = series.drop()
        self._events -= events
        self._dropped += events
        self._bytes -= size


def _keys(client: _Client, query: Query) -> Iterator[str]:
    """The keys that are asked for, from the cursor on, in order."""
    cursor = query.cursor
    after = cursor is not None and cursor.place is None
    since = "" if cursor is None else cursor.key
    if query.key is None:
        yield from client.names.since(since, after=after)
    elif query.key in client.entries and (query.key > since if after else query.key >= since):
        yield query.key
