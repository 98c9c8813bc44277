"""What a topic is: its name, who writes it, what is in it, how long it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.codec import Decoder

MIB = 1 << 20
#: Kafka's own default for a batch. One message of this size fits a topic that sets nothing else.
MAX_RECORD = 1 * MIB
#: Room for a refused message of 10 MB with its headers.
MAX_DEAD_LETTER = 16 * MIB


@dataclass(frozen=True)
class Topic:
    """One topic. `partitions` None: as many as `WEIR_PARTITIONS` says; else fixed. `value` None: bytes as they come.

    `key` says in words what a record's key is; `key_of` makes it of a value where the value decides. `check` raises
    ValueError for a value that the type allows and weir does not, PoisonError where the reason is another than
    `invalid`. Topics owned by `producers` are the way in: anyone may write to them; the others are written by their
    owner alone.
    """

    name: str
    owner: str
    description: str
    key: str
    value: type | None
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    key_of: Callable[[Any], bytes] | None = None
    check: Callable[[Any], object] | None = None

    def decoder(self) -> Decoder[Any] | None:
        """What turns this topic's records into checked elements; None where they are bytes as they come."""
        return None if self.value is None else Decoder(self.value, self.check)


#: Kafka 4 refuses record timestamps over an hour ahead by itself; here they are accepted and go to the dead letters.
ANY_TIMESTAMP = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
A_WEEK = {"cleanup.policy": "delete", "retention.ms": str(7 * 24 * 3600 * 1000)}
#: Kept by size, never by time.
KEPT_BY_SIZE = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": str(4096 * MIB)}
#: Events that come in. Kafka measures age by the record's own timestamp, so a replay of last year's events would be
#: deleted while it is being read.
EVENTS = KEPT_BY_SIZE | ANY_TIMESTAMP
#: Results of which the latest per key is the truth, and which a job restores its state from.
RESULTS = A_WEEK | {"cleanup.policy": "compact,delete"}
#: What a job's own stages say to each other.
PARTIALS = A_WEEK | {"max.message.bytes": str(MAX_DEAD_LETTER)}
#: State by key, of which the latest is all that counts.
STATE = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_DEAD_LETTER)}
