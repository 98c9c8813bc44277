"""An answer that is asked for once and given to all who want it at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Shares one call of `ask` among concurrent callers of one event loop. Callers that waited for it get its error,
    which is not cached.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked: asyncio.Future[T] | None = None
        self._at = 0.0

    async def get(self, max_age: float) -> T:
        """The answer to a question that was asked at most `max_age` seconds ago, or is on its way."""
        asked = self._asked
        if asked is None or (asked.done() and (_failed(asked) or time.monotonic() - self._at > max_age)):
            self._at = time.monotonic()
            asked = self._asked = asyncio.ensure_future(self._ask())
            asked.add_done_callback(_failed)  # looked at, though all who wanted it may be gone by then
        return await asyncio.shield(asked)


def _failed(asked: asyncio.Future[T]) -> bool:
    return asked.cancelled() or asked.exception() is not None
