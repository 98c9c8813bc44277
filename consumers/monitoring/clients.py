"""The in-memory database of monitoring: what clients' CUMULATIVE events come to, and their TIME-SERIES events in order.

Totals are data that nothing else holds: all of them are held, and their bytes are counted. Events of series are held
up to a number of bytes; beyond it the oldest by their own time go, a chunk of up to 64 of a key at a time, and each
series says how many of it are gone. A series without events goes as a whole, its name and its client's with it.

Every object is counted with what it takes of CPython's memory, the room that dicts and lists keep free included.

Pure, and of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice
from sys import getsizeof

import msgspec

from weir.consumers.monitoring.series import Place, Selection, Series, unpack
from weir.consumers.monitoring.sorted_names import SortedNames
from weir.schemas.monitoring import EventType

#: What one entry in the queue of series takes, in bytes: a tuple and its two numbers.
_QUEUED = 140
#: What a client takes besides its name, what a series besides its name and its chunks, what a total besides its name
#: and its text, in bytes: objects, and their places in dicts and lists.
_CLIENT, _SERIES, _TOTAL = 560, 260, 100
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
class ClientPage:
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
    """A client's keys: a total as it is shown, or a series. `totals` is how many of them are totals."""

    __slots__ = ("entries", "name", "names", "totals")

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[str, bytes | _Series] = {}
        self.names = SortedNames()
        self.totals = 0


class _Series(Series):
    """The series of one key of a client. The client is named and not held, so that nothing here is a cycle."""

    __slots__ = ("client_id", "key")

    def __init__(self, client_id: str, key: str) -> None:
        super().__init__()
        self.client_id, self.key = client_id, key


class ClientStore:
    """Data of all clients, in memory. Series take `limit` bytes at most, with the names of their keys and clients."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._clients: dict[str, _Client] = {}
        self._names = SortedNames()
        #: The series by the time of their first events. An entry that its series has no use for any more stays until
        #: its turn comes.
        self._queue: list[tuple[int, int, _Series]] = []
        self._numbers = count()
        self._keys = self._events = self._bytes = self._total_bytes = self._dropped = self._forgotten = 0

    def total(self, client_id: str, key: str, shown: bytes) -> None:
        """Sets the total of a client's key, in place of the one before."""
        client = self._client(client_id)
        held = client.entries.get(key)
        if isinstance(held, bytes):
            self._total_bytes += len(shown) - len(held)
        else:
            if held is None:
                client.names.add(key)
                self._keys += 1
            else:  # a job that has lost its state may have changed its mind; totals win
                while held.first is not None:
                    self._drop(held)
                self._bytes -= _SERIES + getsizeof(held.key)
            self._total_bytes += _TOTAL + getsizeof(key) + len(shown)
            client.totals += 1
            if client.totals == 1:  # from now on it stays
                self._bytes -= _size(client)
                self._total_bytes += _size(client)
        client.entries[key] = shown

    def event(self, client_id: str, key: str, place: Place, packed: bytes) -> None:
        """Adds a TIME-SERIES event, packed by `weir.consumers.monitoring.series.pack`, unless it is there already."""
        client = self._client(client_id)
        series = client.entries.get(key)
        if series is None:
            series = client.entries[key] = _Series(client.name, key)
            client.names.add(key)
            self._keys += 1
            self._bytes += _SERIES + getsizeof(key)
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
        """Returns the kind of a client's key; None for an unknown key."""
        client = self._clients.get(client_id)
        entry = None if client is None else client.entries.get(key)
        if entry is None:
            return None
        return EventType.CUMULATIVE if isinstance(entry, bytes) else EventType.TIME_SERIES

    def clients(self, after: str | None, limit: int) -> tuple[list[tuple[str, int]], bool]:
        """Clients in order of their ids, each with the number of its keys, and whether there are more."""
        found = list(islice(self._names.since(after or "", after=after is not None), limit + 1))
        return [(name, len(self._clients[name].entries)) for name in found[:limit]], len(found) > limit

    def dump(self, client_id: str, query: Query) -> ClientPage | None:
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
                return ClientPage(parts, Cursor(parts[-1][0]))
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
                return ClientPage(parts, Cursor(key, chosen.last))
            left, room = left - max(1, chosen.events), room - chosen.size
        return ClientPage(parts, None)

    def facts(self) -> dict[str, int]:
        """How much is held: `clients`, `keys`, `events` of series, the `bytes` of memory that series take, and those
        that sums take, `total_bytes`; how many events were `dropped`, and how many keys `forgotten`, for want of room.
        """
        return {
            "clients": len(self._clients),
            "keys": self._keys,
            "events": self._events,
            "bytes": self._bytes,
            "total_bytes": self._total_bytes,
            "dropped": self._dropped,
            "forgotten": self._forgotten,
        }

    def _client(self, client_id: str) -> _Client:
        client = self._clients.get(client_id)
        if client is None:
            client = self._clients[client_id] = _Client(client_id)
            self._names.add(client_id)
            self._bytes += _size(client)
        return client

    def _expect(self, series: _Series, time: int) -> None:
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
            else:
                self._forget(series)

    def _drop(self, series: Series) -> None:
        events, size = series.drop()
        self._events -= events
        self._dropped += events
        self._bytes -= size

    def _forget(self, series: _Series) -> None:
        """Lets a series without events go, and its client where that has nothing else."""
        client, key = self._clients[series.client_id], series.key
        del client.entries[key]
        client.names.remove(key)
        self._keys -= 1
        self._forgotten += 1
        self._bytes -= _SERIES + getsizeof(key)
        if not client.entries:
            del self._clients[client.name]
            self._names.remove(client.name)
            self._bytes -= _size(client)


def _size(client: _Client) -> int:
    return _CLIENT + getsizeof(client.name)


def _keys(client: _Client, query: Query) -> Iterator[str]:
    """The keys that are asked for, from the cursor on, in order."""
    cursor = query.cursor
    after = cursor is not None and cursor.place is None
    since = "" if cursor is None else cursor.key
    if query.key is None:
        yield from client.names.since(since, after=after)
    elif query.key in client.entries and (query.key > since if after else query.key >= since):
        yield query.key
