"""Ending in order when the terminal, the user or the machine says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it is done, or cancels it at the first SIGINT, SIGTERM or SIGHUP and waits for its end.

    Returns in both cases; what `work` raises is raised. A SIGHUP that was set to be ignored (nohup) stays ignored; a
    SIGINT does not, although shells start the background jobs of a script that way. Runs in the main thread.
    """
    task = asyncio.ensure_future(work)

    def cancel() -> None:
        if not task.cancelling():  # a second Ctrl-C must not interrupt the ending itself
            task.cancel()

    loop = asyncio.get_running_loop()
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    heard = (*_ENDING, signal.SIGHUP) if hangs_up else _ENDING
    for number in heard:
        loop.add_signal_handler(number, cancel)
    try:
        await asyncio.wait([task])
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
    if not task.cancelled():
        task.result()
