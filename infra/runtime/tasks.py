"""Tasks of an event loop that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_failed(work: Coroutine[Any, Any, None], *others: asyncio.Future[None]) -> None:
    """Runs `work` until it ends, or one of the `others` does, and raises what that raises. `work` has ended then."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait([working, *others], return_when=asyncio.FIRST_COMPLETED)
        for ended in (working, *others):
            if ended.done():
                ended.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
