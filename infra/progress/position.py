"""A position in a topic as a short text: what was acknowledged, for a client to give back. Pure.

The text names the topic by a number that is made of its id (KIP-516): a topic of the same name that was deleted and
made anew has another. Of each partition that was written to, the text has the offset of the last record.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from weir.schemas.errors import WeirError

#: The most partitions of one position. The text then has at most 7400 characters, which a URL holds.
MOST = 500
#: The longest text that is read, in characters, and the largest number in it.
_LONGEST, _LARGEST = 7500, 1 << 63
_VERSION = 1


class BadPositionError(WeirError):
    """Raised when a position cannot be used. Its message has no subject: "is not a position …"."""


class Position(NamedTuple):
    """`topic` as `topic_number` gives it; `offsets` are partition to the offset of the last record that is meant."""

    topic: int
    offsets: Mapping[int, int]


def topic_number(name: str, topic_id: str) -> int:
    """Returns the number that stands for a topic in a position, made of its name and its Kafka topic id."""
    return zlib.crc32(f"{name}\0{topic_id}".encode())


def to_text(position: Position) -> str | None:
    """The position as letters, digits, `-` and `_`; None where it has more than `MOST` partitions, or none.

    >>> to_text(Position(1, {0: 7, 3: 5}))
    'AQAAAAECBQACAwDMTg'
    """
    if not 0 < len(position.offsets) <= MOST:
        return None
    least = min(position.offsets.values())
    content = bytearray([_VERSION, *position.topic.to_bytes(4)])
    _write(content, len(position.offsets))
    _write(content, least)
    before = 0
    for partition, offset in sorted(position.offsets.items()):
        _write(content, partition - before)
        _write(content, offset - least)
        before = partition
    content += _check(content)
    return urlsafe_b64encode(content).decode().rstrip("=")


def from_text(text: str) -> Position:
    """The position that `to_text` wrote. Raises BadPositionError for any other text."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        content = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        body, check = content[:-2], content[-2:]
        if body[:1] != bytes([_VERSION]) or check != _check(body):
            raise ValueError
        numbers = _read(body[5:])
        count, least = next(numbers), next(numbers)
        offsets = {}
        partition = 0
        for _ in range(count):
            partition += next(numbers)
            offsets[partition] = least + next(numbers)
        position = Position(int.from_bytes(body[1:5]), offsets)
        if next(numbers, None) is not None or to_text(position) != text:
            raise ValueError
    except (Error, UnicodeError, ValueError, StopIteration) as e:
        raise BadPositionError("is not a position returned by weir") from e
    return position


def _check(content: bytes | bytearray) -> bytes:
    """Tells a text that was cut off or mistyped; not a secret."""
    return (zlib.crc32(content) & 0xFFFF).to_bytes(2)


def _write(content: bytearray, number: int) -> None:
    """Appends a number, seven bits to a byte, the lowest first (LEB128)."""
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)


def _read(content: bytes) -> Iterator[int]:
    """The numbers. Raises ValueError where the last one is cut off, or one is too large."""
    number = shift = 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number >= _LARGEST:
            raise ValueError
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError
