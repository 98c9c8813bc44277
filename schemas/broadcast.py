"""Topic `broadcast`: messages that anyone sends and every subscriber receives.

A record's value is the message, byte for byte. Its key is the channel's name in UTF-8, None for the default channel;
the header `weir.frame` is `binary` where the message was a binary one. A channel is one partition, chosen here and
not by a client's partitioner, so that order holds per channel whoever writes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping

import msgspec

from weir.schemas.fields import check_id
from weir.schemas.windows import MAX_COUNT, MAX_PARTITIONS

#: The header that says what kind of WebSocket message it was; without it, text.
FRAME_HEADER = "weir.frame"
BINARY = b"binary"

_PAIR = re.compile(r"(\d{1,5})-(\d{1,19})", re.ASCII)


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message to a subscriber that asks for it. Delivery starts at `position`.

    `recovered` is False where messages since the position that was asked for are gone.
    """

    position: str
    recovered: bool


class Ack(msgspec.Struct, frozen=True):
    """Acknowledgement: Kafka has the first `ack` messages of this connection."""

    ack: int


class Refused(msgspec.Struct, frozen=True):
    """Message number `message` of this connection (from 1) was not taken."""

    error: str
    message: int


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message with where it stands: resuming with `position` goes on behind it. `base64` in place of `data` where
    it was a binary message."""

    position: str
    channel: str | None
    data: str | msgspec.UnsetType = msgspec.UNSET
    base64: str | msgspec.UnsetType = msgspec.UNSET


def check_channel(name: str) -> str:
    """The name itself, or ValueError where it is not 1 to 128 printable characters."""
    return check_id(name, "channel")


def partition_of(channel: str | None, partitions: int) -> int:
    """The partition that a channel's messages are in.

    >>> partition_of(None, 4), partition_of("news", 4), partition_of("weather", 4)
    (0, 0, 2)
    """
    return 0 if channel is None else binascii.crc32(channel.encode()) % partitions


def format_position(offsets: Mapping[int, int] | Iterable[tuple[int, int]]) -> str:
    """The next offset to be read of each partition, as subscribers see it.

    >>> format_position({1: 3, 0: 17})
    '0-17.1-3'
    """
    return ".".join([f"{partition}-{offset}" for partition, offset in sorted(dict(offsets).items())])


def parse_position(text: str, field: str = "after") -> dict[int, int]:
    """Parses a position that `format_position` wrote. Raises ValueError, which names the field, for any other text.

    >>> parse_position("0-17.1-3")
    {0: 17, 1: 3}
    """
    offsets: dict[int, int] = {}
    for part in text.split("."):
        pair = _PAIR.fullmatch(part)
        if pair is None:
            raise ValueError(f"`{field}` is not a position: pass one as it was received, such as 0-17 or 0-17.1-3")
        partition, offset = int(pair[1]), int(pair[2])
        if partition >= MAX_PARTITIONS or offset > MAX_COUNT or partition in offsets:
            raise ValueError(f"`{field}` is not a position: {part} is out of range or repeats a partition")
        offsets[partition] = offset
    return offsets


def envelope(position: str, channel: str | None, data: bytes, binary: bool) -> bytes:
    """One message's envelope as JSON. `data` of a text message is valid UTF-8."""
    if binary:
        base64 = binascii.b2a_base64(data, newline=False).decode()
        return msgspec.json.encode(Envelope(position, channel, base64=base64))
    return msgspec.json.encode(Envelope(position, channel, data=data.decode()))
