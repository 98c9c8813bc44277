"""A thread that stores one batch while the next is being read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from weir.infra.errors import WeirError


class Writer:
    """Does one piece of work at a time, in order, in a thread that the end of the program does not wait for.

    Where there is none for `every` seconds, `idle` is called; what that raises is for the next work to find out.
    """

    def __init__(self, name: str, idle: Callable[[], object], every: float) -> None:
        self._idle, self._every = idle, every
        self._work: SimpleQueue[tuple[Future[None], Callable[[], object]] | None] = SimpleQueue()
        self._pending: Future[None] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Waits for the current work, and raises its error unless the block has raised one."""
        self._work.put(None)
        if kind is None:
            self.wait()
        elif self._pending is not None:
            self._pending.exception()

    @property
    def busy(self) -> bool:
        """Whether the last piece of work is not done yet."""
        return self._pending is not None and not self._pending.done()

    def give(self, work: Callable[[], object]) -> None:
        """Submits work. First waits for the previous work, and raises its error."""
        self.wait()
        self._pending = Future()
        self._work.put((self._pending, work))

    def wait(self) -> None:
        """Blocks until all is done. Raises what it raised."""
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                pending.result()
        finally:
            del pending  # an error's traceback holds this frame, which would hold the error

    def _run(self) -> None:
        while True:
            try:
                given = self._work.get(timeout=self._every)
            except Empty:
                with suppress(WeirError):
                    self._idle()
                continue
            if given is None:
                return
            _do(*given)
            del given


def _do(future: Future[None], work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException as e:  # noqa: BLE001 - handed on to whoever waits
        future.set_exception(e)
    else:
        future.set_result(None)
    finally:
        del future, work  # as in `wait`
