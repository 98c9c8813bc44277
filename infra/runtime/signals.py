"""Ending in order when the terminal, the user or the machine says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from weir.infra import log

_ENDING = (signal.SIGINT, signal.SIGTERM)


async def until_signal(
    work: Coroutine[Any, Any, None], name: str | None = None, gently: Callable[[], bool] = lambda: False
) -> bool:
    """Runs `work` until it is done, or cancels it at the first SIGINT, SIGTERM or SIGHUP and waits for its end.

    Returns in both cases, with whether a signal came; what `work` raises is raised. Where it has a `name`, the log says
    at once that it is stopping, and at the end that it has stopped.

    At the first SIGINT, a person's Ctrl-C, `gently` is called before: where it returns True, `work` is about to end by
    itself, and only the next signal cancels it.

    A SIGHUP that was set to be ignored (nohup) stays ignored; a SIGINT does not, although shells start the background
    jobs of a script that way. Runs in the main thread.
    """
    task = asyncio.ensure_future(work)
    came = asked = False

    def cancel(number: signal.Signals) -> None:
        nonlocal came, asked
        if number is signal.SIGINT and not asked:
            asked = True
            if gently():
                return
        if name is not None:
            log.get_logger(__name__).info(f"{name}.stopping", signal=number.name)
        came = True
        if not task.cancelling():  # a second Ctrl-C must not interrupt the ending itself
            task.cancel()

    loop = asyncio.get_running_loop()
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    heard = (*_ENDING, signal.SIGHUP) if hangs_up else _ENDING
    for number in heard:
        loop.add_signal_handler(number, cancel, number)
    try:
        await asyncio.wait([task])
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
    if not task.cancelled():
        task.result()
    if came and name is not None:
        log.get_logger(__name__).info(f"{name}.stopped")
    return came
