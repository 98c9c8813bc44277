"""The text that is committed with an offset: at most 4096 bytes (the broker's offset.metadata.max.bytes).

A stage's own state, as `write_metadata` gives it, stands inside a `MetadataEnvelope`, which is the same for all stages:
its version, and the topics that the state was made of. Versions of weir before the envelope committed the stage's state
alone, a JSON array; an envelope is a JSON object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from weir.streams.engine.core.errors import UnreadableStateError

T = TypeVar("T")

#: The version of the envelope that this weir writes. It reads all versions up to this one.
VERSION = 1
#: The metadata of every offset of a group that is being reset.
RESETTING = "weir reset"
#: So many characters of a topic's id are kept, since room is short: 36 bits, all of them random.
ID = 6


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A topic as it was when an offset was committed.

    `id` is the beginning of its topic id (KIP-516), None where the broker has none; `partitions` is how many it had.
    """

    id: str | None
    partitions: int


class Log(msgspec.Struct, frozen=True, array_like=True):
    """The partition that a state is read back from, as it was when an offset was committed.

    `id` as in `Known`. `first`: its first offset when the state was begun, None where Kafka deletes from its beginning
    in time. `end`: an offset that it had certainly come to, which is where the flush before ended.
    """

    id: str | None
    first: int | None
    end: int


class MetadataEnvelope(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"version": "v", "topics": "t", "log": "c", "raw": "s"}
):
    """The metadata of a committed offset. `topics` are those that the job reads, in the order of `Job.tasks`."""

    version: int
    raw: msgspec.Raw
    topics: tuple[Known, ...] = ()
    log: Log | None = None


class Committed(NamedTuple):
    """A committed offset, and what was committed with it.

    `state` is the stage's own, as `Stage.restore` takes it. `version` is the envelope's; 0 where the offset was
    committed by a version of weir that had none: then `topics` is empty and `log` is None.
    """

    offset: int
    state: str
    version: int = 0
    topics: Sequence[Known] = ()
    log: Log | None = None

    @property
    def resetting(self) -> bool:
        """Whether a reset of the job was begun and not completed."""
        return self.state == RESETTING


class _Version(msgspec.Struct, rename={"version": "v"}):
    version: int


def write_metadata(state: object) -> str:
    """A stage's state as text."""
    return msgspec.json.encode(state).decode()


def read_metadata(metadata: str, kind: type[T]) -> T:
    """Returns the state that `write_metadata` wrote. Raises UnreadableStateError if another version wrote the text."""
    return _decoded(metadata, kind)


def write_envelope(state: str, topics: Sequence[Known], log: Log | None) -> str:
    """A stage's state as what is committed with an offset.

    >>> write_envelope("[1]", [Known("xu3Jtx", 4)], None)
    '{"v":1,"s":[1],"t":[["xu3Jtx",4]]}'
    """
    return msgspec.json.encode(MetadataEnvelope(VERSION, msgspec.Raw(state.encode()), tuple(topics), log)).decode()


def read_committed(offset: int, metadata: str) -> Committed:
    """A committed offset with its metadata, of this version or one before.

    Raises UnreadableStateError where a later version of weir committed it.
    """
    if not metadata.startswith("{"):
        return Committed(offset, metadata)
    if (version := _decoded(metadata, _Version).version) > VERSION:
        raise UnreadableStateError(
            f"{UnreadableStateError.__doc__} (envelope version {version}; this weir reads up to {VERSION})"
        )
    found = _decoded(metadata, MetadataEnvelope)
    return Committed(offset, bytes(found.raw).decode(), found.version, found.topics, found.log)


def _decoded(metadata: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(metadata, type=kind)
    except msgspec.DecodeError as e:
        raise UnreadableStateError(f"{UnreadableStateError.__doc__} ({e})") from e
