"""Ending in order when the terminal, the user or the machine says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it is done, or cancels it at the first SIGINT, SIGTERM or SIGHUP and waits for its end.

    Returns in both cases; what `work` raises is raised. A signal that the caller's parent had set to be ignored
    (nohup) stays ignored. Runs in the main thread.
    """
    task = asyncio.ensure_future(work)

    def cancel() -> None:
        if not task.cancelling():  # a second Ctrl-C must not interrupt the ending itself
            task.cancel()

    loop = asyncio.get_running_loop()
    heard = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, cancel)
    try:
        await asyncio.wait([task])
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
    if not task.cancelled():
        task.result()
