"""What a stage remembers with its committed offset, as text: at most 4096 bytes (offset.metadata.max.bytes)."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from streams.engine.errors import UnreadableStateError

T = TypeVar("T")


def write_metadata(state: object) -> str:
    """The state as metadata."""
    return msgspec.json.encode(state).decode()


def read_metadata(metadata: str, kind: type[T]) -> T:
    """What `write_metadata` was given. Raises UnreadableStateError where another version of weir wrote it."""
    try:
        return msgspec.json.decode(metadata, type=kind)
    except msgspec.DecodeError as e:
        raise UnreadableStateError(f"{UnreadableStateError.__doc__} ({e})") from e
