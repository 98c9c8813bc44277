"""The one list of topics: name, who writes it, what is in it, how long it is kept.

Every topic weir touches is here; `weir topics` prints this list, `infra.topics` makes what is missing. Retention of
event topics is by size, never by time: Kafka measures age by the record's own timestamp, so a replay of last year's
events would be deleted while it is being read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.codec import Decoder
from schemas.dead_letters import Replay
from schemas.errors import UnknownTopicError
from schemas.links import (
    Communication,
    LinkCount,
    Relation,
    WindowClosed,
    check_communication,
    check_link_count,
    check_relation,
    check_window_closed,
    link_count_key,
)

MIB = 1 << 20
#: Kafka's own default for a batch. One message of this size fits a topic that sets nothing else.
MAX_RECORD = 1 * MIB
#: Room for a refused message of 10 MB with its headers.
MAX_DEAD_LETTER = 16 * MIB


@dataclass(frozen=True)
class Topic:
    """One topic. `partitions` None: as many as `WEIR_PARTITIONS` says; else fixed. `value` None: bytes as they come.

    `key` says in words what a record's key is; `key_of` makes it of a value where the value decides. `check` raises
    ValueError for a value that the type allows and weir does not. Topics owned by `producers` are the way in: anyone
    may write to them; the others are written by their owner alone.
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
_ANY_TIMESTAMP = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
_BY_SIZE = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": str(4096 * MIB)}
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_A_WEEK = {"cleanup.policy": "delete", "retention.ms": str(7 * 24 * 3600 * 1000)}

RELATIONS = Topic(
    "relations", "producers", "Which child belongs to which parent, from the record's timestamp on, with its history",
    "the child", Relation, partitions=1, config=_FOR_EVER | _ANY_TIMESTAMP,
    key_of=lambda r: r.child.encode(), check=check_relation,
)  # fmt: skip
COMMUNICATIONS = Topic(
    "communications", "producers", "Calls between children; the record's timestamp is the event's time",
    "free", Communication, config=_BY_SIZE | _ANY_TIMESTAMP, check=check_communication,
)  # fmt: skip
LINKS_PARTIALS = Topic(
    "links-partials", "streams/links", "Partial counts and watermarks, from the combining stage to the merging one",
    "none", None, config=_A_WEEK | {"max.message.bytes": str(MAX_DEAD_LETTER)}, internal=True,
)  # fmt: skip
LINK_COUNTS = Topic(
    "link-counts", "streams/links", "Calls per window and pair of parents; the latest per key is the truth",
    '["window start","source","destination"]', LinkCount,
    config={"cleanup.policy": "compact,delete", "retention.ms": str(7 * 24 * 3600 * 1000)},
    key_of=lambda c: link_count_key(c.window.start, c.source, c.destination), check=check_link_count,
)  # fmt: skip
LINK_WINDOWS = Topic(
    "link-windows", "streams/links", "One record per window and partition of link-counts when that partition closes it",
    '["window start",partition]', WindowClosed, config=_A_WEEK, check=check_window_closed,
)  # fmt: skip
DEAD_LETTERS = Topic(
    "dead-letters", "everyone", "Refused messages: the bytes as they came, why and from where in the headers",
    "the refused message's", None, partitions=1, config=_FOR_EVER | {"max.message.bytes": str(MAX_DEAD_LETTER)},
)  # fmt: skip
DEAD_LETTER_REPLAYS = Topic(
    "dead-letter-replays", "weir dead-letters", "Which dead letters were replayed: written with the replayed record",
    "the dead letter's partition/offset", Replay, partitions=1, config={"cleanup.policy": "compact"}, internal=True,
    key_of=lambda r: r.position.encode(),
)  # fmt: skip
LATE_EVENTS = Topic(
    "late-events", "streams", "Events older than their partition's watermark minus the retention, as they came",
    "the event's", None, partitions=1, config=_A_WEEK | {"max.message.bytes": str(MAX_DEAD_LETTER)},
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    RELATIONS, COMMUNICATIONS, LINKS_PARTIALS, LINK_COUNTS, LINK_WINDOWS, DEAD_LETTERS, DEAD_LETTER_REPLAYS,
    LATE_EVENTS,
)  # fmt: skip


def by_name(name: str) -> Topic:
    """The topic of that name. Raises UnknownTopicError, which lists the known ones, where there is none."""
    for topic in TOPICS:
        if topic.name == name:
            return topic
    raise UnknownTopicError(f"there is no topic {name!r}; the known ones are {', '.join(t.name for t in TOPICS)}")
