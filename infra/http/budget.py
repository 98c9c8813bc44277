"""Bytes that are held for others, up to a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from weir.infra.connections.addresses import address_group, is_loopback
from weir.infra.http.limits import HttpLimits

#: An answer of up to so many bytes is not counted: the limit of connections bounds those.
COUNTED = 64 << 10


class Budget:
    """At most `limit` bytes. `size` is how many are held now."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = asyncio.Event()
        self.size = 0

    def fits(self, more: int, own: int = 0) -> bool:
        """Whether there is room for `more` bytes for one who has `own`; there always is for one who is alone."""
        return self.size <= own or self.size + more <= self._limit

    async def room(self, more: int) -> None:
        """Returns when there is room for `more` bytes."""
        await self._once(lambda: self.fits(more))

    async def _once(self, fits: Callable[[], bool]) -> None:
        while not fits():
            self._room.clear()
            await self._room.wait()

    def hold(self, size: int) -> None:
        """Adds a number of bytes to those held; a negative number releases them."""
        self.size += size
        if size < 0:
            self._room.set()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Holds so many bytes for as long as the block runs."""
        self.hold(size)
        try:
            yield
        finally:
            self.hold(-size)


class Shared(Budget):
    """A budget of which those of one address have their part at most."""

    def __init__(self, limit: int, limits: HttpLimits) -> None:
        super().__init__(limit)
        self._of_address, self._of_loopback = limits.of_address(limit), limits.of_loopback(limit)
        self._by_address: Counter[str] = Counter()

    def fits_for(self, remote: str, more: int, own: int = 0) -> bool:
        """Whether there is room for `more` bytes for one of this address who has `own`; an address that has no others
        has room for one of any size."""
        held = self._by_address.get(address_group(remote), 0)
        most = self._of_loopback if is_loopback(remote) else self._of_address
        return self.fits(more, own) and (held <= own or held + more <= most)

    def hold_for(self, remote: str, size: int) -> None:
        """Adds `size` to the bytes that this address holds; a negative size gives bytes back."""
        address = address_group(remote)
        self._by_address[address] += size
        if not self._by_address[address]:
            del self._by_address[address]
        self.hold(size)

    @contextmanager
    def held_for(self, remote: str, size: int) -> Iterator[None]:
        """Holds so many bytes of this address for as long as the block runs."""
        if not size:
            yield
            return
        self.hold_for(remote, size)
        try:
            yield
        finally:
            self.hold_for(remote, -size)


class AnswerBudget(Shared):
    """The bytes of answers that clients have not read yet: `limits.answers` at most."""

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__(limits.answers, limits)
        self._patience = limits.write

    async def room_for(self, remote: str, more: int) -> bool:
        """Waits for that room, and says whether there is any in the time that a client has to read."""
        try:
            async with asyncio.timeout(self._patience):
                await self._once(lambda: self.fits_for(remote, more))
        except TimeoutError:
            return False
        return True


#: The answers of an application's server that are not written yet.
ANSWERS = web.AppKey("answers", AnswerBudget)
