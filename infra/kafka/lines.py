"""Lines of JSON to a topic's records: what `weir produce` sends, and why it refuses a line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.times import from_rfc3339
from weir.schemas.topic import MAX_DEAD_LETTER, MAX_RECORD, Topic

#: Longest line that is read whole. A line may be longer than a record: a list of keyed elements is split.
MAX_LINE = MAX_DEAD_LETTER
#: What a batch of one record adds to key and value, at most (the batch's header, the record's, their varints).
OVERHEAD = 100


@dataclass(frozen=True)
class Outgoing:
    """A record to be sent. `timestamp` in epoch milliseconds; None is the time of sending."""

    value: bytes
    key: bytes | None = None
    timestamp: int | None = None


class LineRecord(msgspec.Struct):
    """A line that brings its own time and key: what `weir tail --json` prints can be sent again. Else ignored."""

    value: msgspec.Raw
    key: str | None = None
    timestamp: str | int | None = None


class LineParser:
    """Turns one topic's lines into records. `key` and `timestamp`, where given, hold for every line."""

    def __init__(
        self, topic: Topic, *, key: str | None = None, timestamp: int | None = None, envelope: bool = False
    ) -> None:
        self._key_of = topic.key_of
        self._limit = int(topic.config.get("max.message.bytes", MAX_RECORD))
        self._decoder = topic.decoder()
        self._envelope = msgspec.json.Decoder(LineRecord).decode if envelope else None
        self._key = None if key is None else key.encode()
        self._timestamp = timestamp

    def records(self, line: bytes) -> list[Outgoing]:
        """A line's records, with the bytes as they were written.

        One line is one record, but for a list on a topic whose key the value decides: that is split into its elements.
        Raises PoisonError where any part of the line is not acceptable: then nothing of it is.
        """
        value, key, timestamp = self._open(line)
        if self._decoder is None:
            records = [Outgoing(value, key, timestamp)]
        else:
            elements = [self._accepted(element, place) for place, element in enumerate(self._decoder.elements(value))]
            if self._key_of is None:
                records = [Outgoing(value, key, timestamp)]
            else:
                records = [Outgoing(raw, self._key_of(element), timestamp) for element, raw in elements]
        for record in records:
            size = len(record.value) + len(record.key or b"") + OVERHEAD
            if size > self._limit:
                raise PoisonError(Reason.TOO_LARGE, f"{size:,} bytes, and the topic takes {self._limit:,}")
        return records

    def _open(self, line: bytes) -> tuple[bytes, bytes | None, int | None]:
        if self._envelope is None:
            return line, self._key, self._timestamp
        try:
            inner = self._envelope(line)
        except BAD_INPUT as e:
            raise poison(e) from e
        key = self._key if inner.key is None else inner.key.encode()
        timestamp = self._timestamp if inner.timestamp is None else _checked(inner.timestamp)
        return bytes(inner.value), key, timestamp

    @staticmethod
    def _accepted(element: tuple[Any, bytes], place: int) -> tuple[Any, bytes]:
        error = element[0]
        if isinstance(error, PoisonError):
            raise PoisonError(error.reason, f"element {place}: {error.detail}" if place else error.detail) from error
        return element


def _checked(timestamp: str | int) -> int:
    try:
        return parse_timestamp(str(timestamp))
    except ValueError as e:
        raise PoisonError(Reason.TIMESTAMP, str(e)) from e


def parse_timestamp(text: str) -> int:
    """RFC 3339 or epoch milliseconds, as epoch milliseconds. Raises ValueError.

    0 and less cannot be sent: to Kafka's clients 0 means "now", and the broker refuses what is before 1970.
    """
    epoch_ms = int(text) if text.lstrip("-").isdecimal() else from_rfc3339(text)
    if not 0 < epoch_ms < 2**63:
        raise ValueError(f"{text} is not after 1970-01-01T00:00:00Z")
    return epoch_ms


def read_lines(stream: BinaryIO, limit: int = MAX_LINE) -> Iterator[tuple[int, bytes | PoisonError, int]]:
    """Every line that is not blank: its number from 1, the line without its end, and the bytes it took in the file.

    One longer than `limit` is not held in memory: it comes as the PoisonError that says so.
    """
    number = 0
    while line := stream.readline(limit + 1):
        number += 1
        read = len(line)
        if read > limit and not line.endswith(b"\n"):
            while rest := stream.readline(limit):
                read += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield number, PoisonError(Reason.TOO_LARGE, f"the line has {read:,} bytes, {limit:,} are read"), read
        elif text := line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip(b" \t\r\n"):
            yield number, text, read
