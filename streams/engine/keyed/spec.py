"""The declaration of a keyed job: what it reads, keeps and writes, checked, and what its stages read of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from weir.schemas.topic import Topic, ahead_of
from weir.streams.engine.core.job import View, check_name
from weir.streams.engine.core.records import largest
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.state.tables import STORES

#: By how much (ms) the clock of a worker may be before the broker's, which holds timestamps against its own.
CLOCKS = 60_000

E = TypeVar("E")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class KeyedSpec(Generic[E, S]):
    """The fields of a keyed job, checked; `Keyed` says what each means. Raises ValueError for contradictions."""

    name: str
    source: Topic
    changelog: Topic
    state: type[S]
    key: Callable[[E], str]
    process: Callable[[Context[S], E], None]
    on_timer: Callable[[Context[S], str], None] | None = None
    ttl: int | None = None
    capacity: int | None = None
    outputs: Sequence[Topic] = ()
    repartition: Topic | None = None
    view: View | None = None
    max_skew: int = 300_000
    linger: int = 200
    store: str = "memory"

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.source.value is None:
            raise ValueError(f"job {self.name}: topic {self.source.name} has no type to decode: give its Topic a value")
        if "compact" not in self.changelog.config.get("cleanup.policy", ""):
            raise ValueError(
                f"job {self.name}: topic {self.changelog.name} holds the state, so it must be compacted: give it "
                f"cleanup.policy=compact"
            )
        if self.repartition is not None and largest(self.repartition) < largest(self.source):
            raise ValueError(
                f"job {self.name}: topic {self.repartition.name} takes smaller records than topic {self.source.name}: "
                f"give it a max.message.bytes at least as large"
            )
        if self.ttl is not None and self.ttl <= 0:
            raise ValueError(f"job {self.name}: ttl is {self.ttl} ms; it must be positive, or None to keep every key")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"job {self.name}: capacity is {self.capacity}; it must be at least 1 key")
        if self.capacity is not None and self.ttl is None:
            raise ValueError(f"job {self.name}: a capacity needs a ttl: the key that expires first is the one to drop")
        for topic in self.outputs:
            ahead = ahead_of(topic)
            if ahead is not None and self.max_skew + CLOCKS > ahead:
                raise ValueError(
                    f"job {self.name}: an emitted record may be {self.max_skew} ms ahead of the clock (max_skew), but "
                    f"Kafka refuses records of topic {topic.name} that are {ahead} ms ahead; give the topic "
                    f"weir.schemas.topic.ANY_TIMESTAMP, or the job a max_skew of {ahead - CLOCKS} ms at most"
                )
        if self.store not in STORES:
            raise ValueError(f"job {self.name}: unknown store {self.store!r}; known stores: {', '.join(STORES)}")

    @property
    def timed(self) -> bool:
        """Whether anything waits for event time: a timer, or the end of a time to live."""
        return self.on_timer is not None or self.ttl is not None

    @property
    def owner(self) -> Topic:
        """The topic whose partitions own the keys."""
        return self.repartition or self.source
