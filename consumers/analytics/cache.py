"""Answers that are kept: one entry per day, plan and scope, under a name that says what it was made of.

The name holds the day's stamp and that of the tenants, which change with every write: what was written is asked for
under a new name, and the entry of the old one is never looked at again. So nothing is ever deleted, and an entry
can be lost at any time.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from weir.consumers.analytics.rows import Daily
from weir.infra.runtime.threads import in_daemon

#: What an entry of the store in this process takes beside its name and its bytes: a node of the order, two objects.
ENTRY_OVERHEAD = 250
_SEAL = 16
#: Entries of more bytes, or of more rows, together are read and made in a thread.
_LARGE, _MANY = 1 << 18, 2_000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Daily]).decode

#: A day's rows, in order of the tenants.
Rows = list[Daily]


class Store(Protocol):
    """Where entries are kept. It may forget them, be away (all is missing then), and hold what nobody gave it."""

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The entries of these names, None for each that is not there."""
        ...

    async def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keeps them, if it can."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


class MemoryStore:
    """Cache in this process: the entries used last, within `size` bytes, each counted with `ENTRY_OVERHEAD`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self.used = 0

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        for name in names:
            if name in self._entries:
                self._entries.move_to_end(name)
        return [self._entries.get(name) for name in names]

    async def put(self, entries: Mapping[bytes, bytes]) -> None:
        for name, entry in entries.items():
            self._drop(name)
            self._entries[name] = entry
            self.used += _cost(name, entry)
        while self.used > self._size:
            self._drop(next(iter(self._entries)))

    async def close(self) -> None:
        self._entries.clear()
        self.used = 0

    def _drop(self, name: bytes) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.used -= _cost(name, entry)


def _cost(name: bytes, entry: bytes) -> int:
    return len(name) + len(entry) + ENTRY_OVERHEAD


def entry_name(
    day: dt.date, stamp: uuid.UUID, tenants: uuid.UUID, plan: str | None, scope: str, percentiles: bool
) -> bytes:
    """Under which name a day's rows are kept: made of all that they depend on, and the day to be read by people."""
    made_of = msgspec.msgpack.encode((stamp.bytes, tenants.bytes, plan, scope, percentiles))
    return b"weir:daily:1:%b:%b" % (day.isoformat().encode(), blake2b(made_of, digest_size=16).hexdigest().encode())


def seal(name: bytes, rows: Rows) -> bytes:
    """The rows as an entry: with a checksum, in which the name takes part."""
    body = _encode(rows)
    return _checksum(name, body) + body


def unseal(name: bytes, entry: bytes | None) -> Rows | None:
    """The rows in an entry; None where it is not what was put there under this name."""
    if entry is None or entry[:_SEAL] != _checksum(name, entry[_SEAL:]):
        return None
    return _decode(entry[_SEAL:])


def _checksum(name: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=_SEAL, key=blake2b(name, digest_size=16).digest()).digest()


class DayCache:
    """Cache of days' rows; fetches each missing row once, however many callers ask for it at a time.

    Of one event loop.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._flying: dict[bytes, asyncio.Future[Rows]] = {}

    async def days(
        self, names: Mapping[dt.date, bytes], fetch: Callable[[list[dt.date]], Awaitable[Mapping[dt.date, Rows]]]
    ) -> dict[dt.date, Rows]:
        """The rows of these days. `fetch` is asked for those that are neither kept nor just being fetched by another.

        Raises what `fetch` does.
        """
        entries = await self._store.get(list(names.values()))

        def read() -> dict[dt.date, Rows | None]:
            return {day: unseal(name, entry) for (day, name), entry in zip(names.items(), entries, strict=True)}

        size = sum(len(entry) for entry in entries if entry is not None)
        kept = read() if size <= _LARGE else await in_daemon(read)
        found = {day: rows for day, rows in kept.items() if rows is not None}
        others = {day: self._flying[name] for day, name in names.items() if day not in found and name in self._flying}
        if mine := [day for day in names if day not in found and day not in others]:
            found |= await self._fetched({day: names[day] for day in mine}, fetch)
        if others:
            await asyncio.wait(others.values())
            failed = [day for day, other in others.items() if other.cancelled()]
            found |= {day: other.result() for day, other in others.items() if not other.cancelled()}
            if failed:  # for them alone, perhaps: their connection broke, or they gave up
                found |= await fetch(failed)
        return found

    async def close(self) -> None:
        """Lets go of the store's connections."""
        await self._store.close()

    async def _fetched(
        self, names: Mapping[dt.date, bytes], fetch: Callable[[list[dt.date]], Awaitable[Mapping[dt.date, Rows]]]
    ) -> Mapping[dt.date, Rows]:
        loop = asyncio.get_running_loop()
        promised = {day: loop.create_future() for day in names}
        self._flying |= {name: promised[day] for day, name in names.items()}
        try:
            rows = await fetch(list(names))
            for day, promise in promised.items():
                promise.set_result(rows[day])

            def made() -> dict[bytes, bytes]:
                return {name: seal(name, rows[day]) for day, name in names.items()}

            many = sum(len(rows[day]) for day in names) > _MANY
            await self._store.put(await in_daemon(made) if many else made())
        finally:
            for day, name in names.items():
                promised[day].cancel()  # of one that is kept, this does nothing
                del self._flying[name]
        return rows
