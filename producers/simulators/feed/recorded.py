"""A feed in a file: one line per message, `{"at": seconds since the start, "message": what is sent}`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.errors import WeirError

#: Between two rounds of a feed that is played again and again, in seconds of feed time.
PAUSE = 1.0


class FeedFileError(WeirError):
    """A recorded feed cannot be read."""


class Timed(NamedTuple):
    """One message of a feed: when, in seconds since the feed's start, and the text that is sent (UTF-8)."""

    at: float
    message: bytes


class _Line(msgspec.Struct):
    at: float
    message: msgspec.Raw


class Recording(NamedTuple):
    """How much is in a recorded feed: messages, and its length in seconds."""

    messages: int
    seconds: float


_decode = msgspec.json.Decoder(_Line).decode


def read(path: Path) -> Iterator[Timed]:
    """The messages of a recorded feed in the order of its lines; `message` is the JSON text as it stands there.

    Raises FeedFileError, which names the line, where a line is no message, or is earlier than the one before it.
    """
    latest = 0.0
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                found = _decode(line)
                if found.at < latest:
                    raise FeedFileError(f"{path}:{number}: `at` is {found.at:g}, which is before {latest:g}")
                latest = found.at
                yield Timed(found.at, bytes(found.message))
    except OSError as e:
        raise FeedFileError(f"{path}: {e.strerror}") from e
    except BAD_INPUT as e:
        raise FeedFileError(f"{path}:{number}: {poison(e).detail}") from e


def measure(path: Path) -> Recording:
    """Reads a recorded feed once to its end. Raises FeedFileError where it is bad, or empty."""
    messages, seconds = 0, 0.0
    for at, _ in read(path):
        messages, seconds = messages + 1, at
    if not messages:
        raise FeedFileError(f"{path}: the file contains no message")
    return Recording(messages, seconds)


def repeat(path: Path, seconds: float) -> Iterator[Timed]:
    """A recorded feed of that length again and again, as one that goes on."""
    start = 0.0
    while True:
        for at, message in read(path):
            yield Timed(start + at, message)
        start += seconds + PAUSE


class Recorder:
    """Writes what is sent into a file, from which `read` gives it back. Raises FeedFileError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._file = path.open("wb")

    def write(self, timed: Timed) -> None:
        """Adds one message."""
        with self._translated():
            self._file.write(line(timed))

    def close(self) -> None:
        """Ends the file."""
        with self._translated():
            self._file.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise FeedFileError(f"{self._path}: {e.strerror}") from e


def line(timed: Timed) -> bytes:
    """A message as a line of a recorded feed.

    >>> line(Timed(1.5, b"[]"))
    b'{"at":1.5,"message":[]}\\n'
    """
    at = msgspec.json.encode(round(timed.at, 6))
    return b'{"at":' + at + b',"message":' + timed.message + b"}\n"
