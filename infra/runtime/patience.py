"""Waiting for servers: for as long as it takes, and never silently."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from weir.infra import log
from weir.infra.errors import RetryableError
from weir.infra.runtime.backoff import Backoff

#: After so many seconds it is said for the first time, and then so often.
FIRST_S, AGAIN_S = 1.0, 10.0

_log = log.get_logger(__name__)
T = TypeVar("T")


def _logged(line: str) -> None:
    _log.warning("weir.waiting", waiting_for=line)


_say: Callable[[str], None] = _logged


def tell_by(say: Callable[[str], None]) -> None:
    """Has `say` called with what is waited for, from any thread, in place of a line in the log: a command's way."""
    global _say
    _say = say


@contextlib.contextmanager
def waiting_for(what: str, first: float = FIRST_S, detail: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Says `what` once the block has lasted `first` seconds, and again every `AGAIN_S`, with `detail` where there is
    any."""
    over = threading.Event()

    def watch() -> None:
        wait = first
        while not over.wait(wait):
            more = detail()
            _say(f"{what} ({more})" if more else what)
            wait = AGAIN_S

    thread = threading.Thread(target=watch, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


async def until_answered(
    ask: Callable[[], Awaitable[T]], told: Callable[[RetryableError, int, float], None], cap: float = 3.0
) -> T:
    """Calls `ask` until it no longer raises RetryableError, with pauses that grow to `cap` seconds, and returns its
    result.

    `told` is called before each pause: with the error, how many attempts there were, and the pause in seconds.
    """
    backoff = Backoff(first=0.2, cap=cap)
    while True:
        try:
            return await ask()
        except RetryableError as e:
            delay = backoff.next()
            told(e, backoff.attempt, round(delay, 1))
            await asyncio.sleep(delay)
