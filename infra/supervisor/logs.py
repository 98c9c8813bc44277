"""Logs of services: what each prints, in a file that is rotated: WEIR_HOME/logs/NAME.log, NAME.log.1 (older), …"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

#: A file is put aside when it has so many bytes, and so many older ones are kept.
SIZE, KEPT = 10 << 20, 3
#: What one read takes at most; a line that is longer is written in pieces.
_READ = 64 << 10
_MISSING = b"weir: the log could not be written, %d bytes are missing here\n"


def log_file(folder: Path, name: str) -> Path:
    """Where the log of a service or server is."""
    return folder / f"{name}.log"


def put_aside(path: Path, more: int = 0, size: int = SIZE, kept: int = KEPT) -> None:
    """Puts a log aside that has no room for `more` bytes: it becomes `.1`, what was that `.2`, and the oldest goes."""
    if not path.exists() or path.stat().st_size + more <= size:
        return
    older = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1))]
    for newer, place in reversed(list(pairwise(older))):
        with contextlib.suppress(FileNotFoundError):
            newer.replace(place)


class RotatingFile:
    """A file that is added to, and put aside at `size` bytes; `kept` of those are kept (`put_aside`).

    Where it cannot be written (a full disk), what comes is dropped and counted, until it can be again.
    """

    def __init__(self, path: Path, size: int = SIZE, kept: int = KEPT) -> None:
        self._path, self._limit, self._kept = path, size, kept
        self._file: BinaryIO | None = None
        self._size = 0
        #: Bytes that were dropped since something was written.
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Adds whole lines."""
        try:
            if self._file is None or self._size + len(data) > self._limit or not self._is_there():
                self._renew(len(data))
            assert self._file is not None
            if self.dropped:
                self._add(_MISSING % self.dropped)
                self.dropped = 0
            self._add(data)
        except OSError:
            self.dropped += len(data)
            self.close()

    def _is_there(self) -> bool:
        """Whether the open file is still the one of this name: others may move or remove it."""
        assert self._file is not None
        try:
            return self._path.stat().st_ino == os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Closes the file; writing opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _add(self, data: bytes) -> None:
        assert self._file is not None
        if self._file.write(data) < len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += len(data)

    def _renew(self, more: int) -> None:
        """Opens the file, and puts it aside before where it has no room for so many bytes."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        put_aside(self._path, more, self._limit, self._kept)
        self._file = self._path.open("ab", buffering=0)
        self._size = self._path.stat().st_size


class TextLog(io.TextIOBase):
    """A rotating file for text: what weir itself logs where a terminal shows something else."""

    def __init__(self, path: Path) -> None:
        self._file = RotatingFile(path)

    def write(self, text: str) -> int:
        """Adds whole lines."""
        self._file.write(text.encode())
        return len(text)

    def close(self) -> None:
        """Closes the file; writing opens it again."""
        self._file.close()


class LogPump:
    """Takes what processes print, through pipes, to the log of each; and to `onward`, line by line, where there is any.

        pump = LogPump(folder, sys.stderr.buffer.write)
        with pump.pipe("api") as output:
            process = spawn(command, output=output)
        …
        pump.close()

    One thread reads all pipes. A process that prints faster than the disk takes it waits, as with a file.
    """

    def __init__(self, folder: Path, onward: Callable[[bytes], object] | None = None) -> None:
        self._folder, self._onward = folder, onward
        self._missing = 0  # bytes that could not be passed onward, since something was
        self._files: dict[str, RotatingFile] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def pipe(self, name: str) -> Iterator[int]:
        """The descriptor that a process is to print to; closed here after the block, when the process has its own."""
        reading, writing = os.pipe()
        file = self._files.setdefault(name, RotatingFile(log_file(self._folder, name)))
        with self._lock:
            self._selector.register(reading, selectors.EVENT_READ, _Stream(file))
        os.write(self._woken, b".")
        try:
            yield writing
        finally:
            os.close(writing)

    def close(self, seconds: float = 1.0) -> None:
        """Waits until all that was printed is written, and the processes have ended: for so many seconds at most."""
        os.close(self._woken)
        self._thread.join(seconds)

    def _run(self) -> None:
        closing = False
        while True:
            with self._lock:
                streams = [key for key in self._selector.get_map().values() if key.data is not None]
            if closing and not streams:
                break
            for key, _ in self._selector.select():
                if key.data is None:
                    if not os.read(key.fd, _READ):
                        closing = True
                        self._selector.unregister(key.fd)
                    continue
                data = os.read(key.fd, _READ)
                if lines := key.data.lines(data):
                    self._pass(key.data.file, lines)
                if not data:
                    with self._lock:
                        self._selector.unregister(key.fd)
                    os.close(key.fd)
        for file in self._files.values():
            file.close()

    def _pass(self, file: RotatingFile, lines: bytes) -> None:
        file.write(lines)
        if self._onward is None:
            return
        missing = _MISSING % self._missing if self._missing else b""
        try:
            self._onward(missing + (lines if lines.endswith(b"\n") else lines + b"\n"))
            self._missing = 0
        except BrokenPipeError:  # nobody reads them any more: they are in the files
            self._onward = None
        except OSError:  # a full disk, say: told where it can be told again
            self._missing += len(lines)


class _Stream:
    """The output of one process: whole lines of it, so that those of several are not mixed."""

    def __init__(self, file: RotatingFile) -> None:
        self.file = file
        self._begun = b""

    def lines(self, data: bytes) -> bytes:
        """The lines that are whole with `data`; at the end, which is no data, the rest."""
        begun = self._begun + data
        end = begun.rfind(b"\n") + 1
        if not data or len(begun) - end > _READ:
            end = len(begun)
        self._begun = begun[end:]
        return begun[:end]
