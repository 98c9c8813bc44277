"""Blocking work beside an event loop, in threads that the end of the program does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Generic, TypeVar

T = TypeVar("T")


async def in_daemon(function: Callable[[], T]) -> T:
    """Runs `function` in a daemon thread, and returns or raises as it does.

    `asyncio.to_thread` would keep a program from ending until the function does: a download from a network that
    stalls, say. This one is left behind when the caller is cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (function(), None)
        except BaseException as e:  # noqa: BLE001 - handed on to whoever waits
            outcome = (None, e)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await future


class ReadingThread(Generic[T]):
    """Takes batches from `read` in a thread, and hands each to `deliver` on the event loop, which says `taken`: as many
    as `ahead` says may wait for that.

    `read` gives None now and then where there is nothing, so that the thread can end. What it raises is handed to
    `failed`; it is closed at the end.
    """

    def __init__(
        self,
        name: str,
        read: Generator[T | None, None, None],
        deliver: Callable[[T], object],
        failed: Callable[[Exception], object],
        ahead: int = 4,
    ) -> None:
        self._read, self._deliver, self._failed = read, deliver, failed
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def taken(self) -> None:
        """Makes room for one more batch: one that was delivered is dealt with."""
        self._room.release()

    def stop(self) -> None:
        """Delivers nothing more. Does not wait for the thread's end."""
        self._stopped.set()
        self._room.release()

    def close(self, seconds: float = 1.0) -> None:
        """Stops, and blocks until the thread has ended, for so many seconds at most."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with closing(self._read):
                for batch in self._read:
                    if batch is not None and not self._stopped.is_set():
                        self._room.acquire()  # whoever stops it makes room once
                    if self._stopped.is_set():
                        return
                    if batch is not None:
                        self._loop.call_soon_threadsafe(self._deliver, batch)
        except Exception as e:  # noqa: BLE001 - handed to the owner
            if not self._stopped.is_set() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._failed, e)
