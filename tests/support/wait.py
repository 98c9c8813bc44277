"""One way to wait for what other threads and processes do."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

#: Seconds after which a wait fails, on the busiest machine.
PATIENCE_S = 150.0

T = TypeVar("T")


def until(condition: Callable[[], T], tick: Callable[[], None] = lambda: None, seconds: float = PATIENCE_S) -> T:
    """Returns what the condition gives, once that is true; `tick` runs between two questions.

    Raises AssertionError after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        tick()
        os.sched_yield()
        time.sleep(0.05)
    return found


async def until_async(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; other tasks of the loop run meanwhile. Raises TimeoutError after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)
