"""The waits of a worker: each is logged when it begins and when it ends, and shown in the worker's status meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from weir.infra.errors import RetryableError, TopicMissingError
from weir.infra.log import get_logger
from weir.streams.engine.core.errors import EngineError

log = get_logger(__name__)

#: Seconds without records after which Kafka is asked whether it is there: a consumer whose broker has gone just hears
#: nothing. And how long Kafka has for that answer.
QUIET_S, ASK_S = 2.0, 3.0
#: How long a topic may be missing, in seconds: one that was deleted does not come back by itself, and a worker that
#: starts anew makes it.
MISSING_S = 30.0
#: How long nothing may be readable beyond an offset until it is told that a transaction is open there, in seconds.
#: weir's own transactions are shorter.
OPEN_S = 3.0

_KAFKA, _TOPIC = "kafka", "topic"


class _Wait(NamedTuple):
    since: float
    reason: str


class Waits:
    """The waits of one worker, which any thread may begin, end and ask for. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[Hashable, _Wait] = {}

    @property
    def reason(self) -> str | None:
        """Why not all goes on: of several reasons the oldest; None where all does."""
        oldest = min(list(self._waits.values()), default=None)
        return None if oldest is None else oldest.reason

    @property
    def is_kafka_away(self) -> bool:
        """Whether Kafka did not answer when it was last asked."""
        return _KAFKA in self._waits

    def begin(self, key: Hashable, event: str, reason: str, **facts: object) -> float:
        """Says that something waits, the first time in the log as `event`; for how many seconds it has by now."""
        wait = self._waits.get(key)
        if wait is None:
            wait = self._waits[key] = _Wait(self._clock(), reason)
            log.warning(event, reason=reason, **facts)
        return self._clock() - wait.since

    def end(self, *keys: Hashable) -> None:
        """Says that none of these waits any more, where it did."""
        for key in keys:
            if (wait := self._waits.pop(key, None)) is not None:
                log.info("wait.over", waited_for=wait.reason, seconds=round(self._clock() - wait.since, 1))

    def unanswered(self, error: RetryableError) -> None:
        """Kafka did not answer, or does not have a topic; raises EngineError once that has lasted `MISSING_S`."""
        if not isinstance(error, TopicMissingError):
            self.begin(_KAFKA, "kafka.away", str(error))
        elif self.begin(_TOPIC, "topic.missing", str(error)) > MISSING_S:
            raise EngineError(f"{error}; gave up after {MISSING_S:.0f} s") from error

    def answered(self) -> None:
        """Kafka has answered, with what was asked for."""
        self.end(_KAFKA, _TOPIC)

    def at_open_transaction(self, topic: str, partition: int, offset: int) -> None:
        """Begins a wait: an open transaction hides the records from `offset` on, the last stable offset (KIP-98)."""
        self.begin(
            (topic, partition),
            "transaction.open",
            f"a producer's transaction is open at {topic}[{partition}] offset {offset}: later records are read once "
            f"the producer ends it, or Kafka does (transaction.timeout.ms)",
            topic=topic,
            partition=partition,
            offset=offset,
        )

    def past_open_transaction(self, topic: str, partition: int) -> None:
        """Ends the wait of `at_open_transaction`: the whole partition can be read."""
        self.end((topic, partition))


class Blocked:
    """Watches the partitions of which some cannot be read, and tells `waits` where that lasts."""

    def __init__(self, waits: Waits, clock: Callable[[], float] = time.monotonic) -> None:
        self._waits, self._clock = waits, clock
        self._since: dict[tuple[str, int], tuple[int, float]] = {}

    def at(self, topic: str, partition: int, offset: int) -> float:
        """The partition is readable up to `offset` and holds more; for how many seconds that has been so."""
        before = self._since.get((topic, partition))
        if before is None or before[0] != offset:
            self.free(topic, partition)
            before = self._since[topic, partition] = offset, self._clock()
        seconds = self._clock() - before[1]
        if seconds >= OPEN_S:
            self._waits.at_open_transaction(topic, partition, offset)
        return seconds

    def free(self, topic: str, partition: int) -> None:
        """Ends the watch of a partition that can be read to its end, or further than before."""
        if self._since.pop((topic, partition), None) is not None:
            self._waits.past_open_transaction(topic, partition)

    def forget(self) -> None:
        """Nothing is waited for any more."""
        for topic, partition in list(self._since):
            self.free(topic, partition)
