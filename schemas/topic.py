"""Declaration of a topic: its name, the job that writes it, its type of value, its retention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weir.schemas.codec import Decoder

MIB = 1 << 20
#: Kafka's own default for a batch. One message of this size fits a topic that sets nothing else.
MAX_RECORD = 1 * MIB
#: Room for a refused message of 10 MB with its headers.
MAX_DEAD_LETTER = 16 * MIB
#: A topic's own name, without `WEIR_TOPIC_PREFIX`, and a partition of it.
PartitionId = tuple[str, int]


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
        """Returns a decoder of this topic's records into checked elements; None if the topic holds plain bytes."""
        return None if self.value is None else Decoder(self.value, self.check)


def kept_for(topic: Topic) -> int | None:
    """For how many milliseconds the topic keeps a record, by its own timestamp; None: as long as its key or its size
    allows. What does not say is kept for a week, Kafka's default.
    """
    config = topic.config
    if "delete" not in config.get("cleanup.policy", "delete").split(","):
        return None
    milliseconds = int(config.get("retention.ms", _A_WEEK_MS))
    return None if milliseconds < 0 else milliseconds


def ahead_of(topic: Topic) -> int | None:
    """Returns by how many milliseconds a record's timestamp may be ahead of the broker's clock; None: any. Without a
    setting it is an hour, the default of Kafka 4.
    """
    config = topic.config
    if config.get("message.timestamp.type") == "LogAppendTime":
        return None
    most = int(config.get("message.timestamp.after.max.ms", _AN_HOUR_MS))
    return None if most == _ANY_MS else most


_A_WEEK_MS = 7 * 24 * 3600 * 1000
_AN_HOUR_MS, _ANY_MS = 3600 * 1000, 2**63 - 1
#: Kafka 4 refuses record timestamps over an hour ahead by itself; here they are accepted and go to the dead letters.
ANY_TIMESTAMP = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(_ANY_MS)}
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
A_WEEK = {"cleanup.policy": "delete", "retention.ms": str(_A_WEEK_MS)}
#: Kept by size, never by time.
KEPT_BY_SIZE = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": str(4096 * MIB)}
#: Events that come in. Kafka measures age by the record's own timestamp, so a replay of last year's events would be
#: deleted while it is being read.
EVENTS = KEPT_BY_SIZE | ANY_TIMESTAMP
#: Results of which the latest per key is the truth, and which a job restores its state from.
RESULTS = A_WEEK | {"cleanup.policy": "compact,delete"}
#: What a job's own stages say to each other: the engine deletes what the next stage has committed, and nothing else is
#: deleted. Kafka frees room by whole segments, so they are small (Kafka Streams' repartition topics: 50 MB).
PARTIALS = FOR_EVER | {"segment.bytes": str(50 * MIB), "max.message.bytes": str(MAX_DEAD_LETTER)}
#: State by key, of which the latest is all that counts.
STATE = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_DEAD_LETTER)}


def declared(topic: Topic) -> dict[str, str]:
    """Returns the topic's declared configuration. A topic limited by age alone gets no limit of size, whatever the
    broker's default is.

    >>> declared(Topic("a", "", "", "", None, config=A_WEEK))["retention.bytes"]
    '-1'
    """
    limits = {"retention.bytes": "-1"} if "retention.ms" in topic.config else {}
    return limits | dict(topic.config)


def kept_whole(topic: Topic) -> bool:
    """Whether Kafka deletes nothing of a topic for its age or its size: its first offset stays where it is.

    >>> [kept_whole(Topic("a", "", "", "", None, config=c)) for c in (STATE, FOR_EVER, RESULTS, EVENTS)]
    [True, True, False, False]
    """
    wanted = declared(topic)
    deletes = "delete" in wanted.get("cleanup.policy", "delete")
    return not deletes or wanted.get("retention.ms") == wanted.get("retention.bytes") == "-1"
