"""A thread that stores one batch while the next is being read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType


class Writer:
    """Does one piece of work at a time, in order, in a thread that the end of the program does not wait for."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[None], Callable[[], object]] | None] = SimpleQueue()
        self._pending: Future[None] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Waits for what is being done, whose error is raised where there is none yet."""
        self._work.put(None)
        pending, self._pending = self._pending, None
        if pending is not None and (error := pending.exception()) is not None and kind is None:
            raise error

    @property
    def busy(self) -> bool:
        """Whether the last piece of work is not done yet."""
        return self._pending is not None and not self._pending.done()

    def give(self, work: Callable[[], object]) -> None:
        """Has it done once what was given before is done. Blocks until then, and raises what that raised."""
        self.wait()
        self._pending = Future()
        self._work.put((self._pending, work))

    def wait(self) -> None:
        """Blocks until all is done. Raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _run(self) -> None:
        while (given := self._work.get()) is not None:
            future, work = given
            try:
                work()
            except BaseException as e:  # noqa: BLE001 - handed on to whoever waits
                future.set_exception(e)
            else:
                future.set_result(None)
