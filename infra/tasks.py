"""Tasks of an event loop that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_failed(work: Coroutine[Any, Any, None], failed: asyncio.Future[None]) -> None:
    """Runs `work` until it ends, or `failed` does; raises what either raises. `work` has ended when this returns."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait([working, failed], return_when=asyncio.FIRST_COMPLETED)
        for ended in (working, failed):
            if ended.done():
                ended.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
