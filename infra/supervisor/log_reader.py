"""Logs of services as they are read: the last lines of each, and what is added."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import BinaryIO

from weir.infra.errors import ConfigError
from weir.infra.supervisor.logs import KEPT, log_file

#: How often the files are looked at for what was added, in seconds.
_LOOK_S = 0.2


class LogReader:
    """Reads the log of `name`, or all logs in `folder`, each line with the name in front.

    Raises ConfigError where there is no such log.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder, self._prefixed = folder, name is None
        known = self._names()
        if name is not None and name not in known:
            there = f"; there are logs of {', '.join(known)}" if known else ""
            raise ConfigError(f"there is no log of {name} in {folder}{there}")
        if not known:
            raise ConfigError(f"there are no logs in {folder}: `weir up` and `weir demo` write them")
        self._only = name

    def lines(self, last: int, follow: bool, wait: Callable[[], None] = lambda: time.sleep(_LOOK_S)) -> Iterator[bytes]:
        """The last lines of each log, from files that were put aside too; with `follow`, then what is added, for ever.

        `wait` is called where nothing was added.
        """
        width = max(map(len, self._chosen()))
        with ExitStack() as stack:
            open_logs: dict[str, _Log] = {}
            while True:
                found = False
                for name in self._chosen():
                    if name not in open_logs:
                        open_logs[name] = stack.enter_context(closing(_Log(log_file(self._folder, name), last)))
                    for line in open_logs[name].added():
                        found = True
                        yield (f"{name:{width}} | ".encode() if self._prefixed else b"") + line
                if not follow:
                    return
                if not found:
                    wait()

    def _chosen(self) -> list[str]:
        return self._names() if self._only is None else [self._only]

    def _names(self) -> list[str]:
        return sorted(path.name.removesuffix(".log") for path in self._folder.glob("*.log"))


class _Log:
    """One log: its last lines first, then what is added, also where the file is put aside meanwhile."""

    def __init__(self, path: Path, last: int) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._begun = b""
        self._before: list[bytes] | None = self._last(last)

    def added(self) -> Iterator[bytes]:
        """Lines that were not given yet."""
        before, self._before = self._before, None
        yield from before or ()
        while True:
            yield from self._read()
            if not self._is_another():
                return
            try:
                self._open(0)
            except FileNotFoundError:
                return

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _last(self, number: int) -> list[bytes]:
        """The last lines there are, and opens the file behind them."""
        lines: deque[bytes] = deque(maxlen=number)
        for path in (*(Path(f"{self._path}.{older}") for older in range(KEPT, 0, -1)), self._path):
            with suppress(FileNotFoundError), path.open("rb") as file:
                lines.extend(file)
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        with suppress(FileNotFoundError):  # it is just put aside: `added` opens it
            self._open(self._path.stat().st_size)
        return list(lines)

    def _open(self, at: int) -> None:
        self.close()
        self._file = self._path.open("rb")
        self._file.seek(at)

    def _read(self) -> Iterator[bytes]:
        while self._file is not None and (data := self._file.readline()):
            self._begun += data
            if self._begun.endswith(b"\n"):
                line, self._begun = self._begun, b""
                yield line

    def _is_another(self) -> bool:
        """Whether the file of this name is not the one that is read, or was cut behind the reader's back."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return (
            self._file is None or now.st_ino != os.fstat(self._file.fileno()).st_ino or now.st_size < self._file.tell()
        )
