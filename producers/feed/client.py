"""The way in from a feed: each message is taken apart, stamped, and produced; Kafka's pace is the feed's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import FeedClosedError
from weir.infra.kafka.bounded_producer import BoundedProducer
from weir.infra.runtime.clock import wall_clock
from weir.producers.feed.connection import FeedConnection, Incoming
from weir.producers.feed.messages import Classifier, Communications, RefusedElement, Relations
from weir.producers.feed.status import Fact, FeedStatus
from weir.producers.feed.timestamps import Timestamps
from weir.schemas import topic, topics
from weir.schemas.dead_letters import Origin, to_headers

#: A dead letter keeps this much of a refused message: what its topic takes, less the room for its headers.
MAX_DEAD_LETTER = topic.MAX_DEAD_LETTER - (64 << 10)
#: How long Kafka may leave records unacknowledged before the feed is no longer read, in seconds.
PATIENCE = 2.0
#: How long Kafka has for what is left when the client stops, in seconds.
STOP_TIMEOUT = 1.5

_log = log.get_logger("feed")


class FeedClient:
    """Reads a feed and writes `relations`, `communications` and `dead-letters`.

    Before anything that came after a relation is produced, Kafka has acknowledged that relation. While Kafka does
    not acknowledge, the feed is not read. Before a ping of the feed's is answered, Kafka has acknowledged all that
    came before it: a feed that pings knows what can no longer be lost. `clock` gives epoch milliseconds.
    """

    def __init__(
        self, config: Config, connection: FeedConnection, status: FeedStatus, clock: Callable[[], int] = wall_clock
    ) -> None:
        self._connection = connection
        self._status = status
        self._clock = clock
        self._relations = config.topic(topics.RELATIONS.name)
        self._communications = config.topic(topics.COMMUNICATIONS.name)
        self._dead_letters = config.topic(topics.DEAD_LETTERS.name)
        self._producer = BoundedProducer(config)
        connection.settle = self._producer.drain
        self._classifier = Classifier()
        self._timestamps = Timestamps()
        #: What has come so far: messages, and of their elements the others.
        self.counts = {"messages": 0, "communications": 0, "relations": 0, "refused": 0}
        self._refused_said = 0
        self._in_hand = False

    async def run(self) -> None:
        """Reads until the connection is closed, then waits at most `STOP_TIMEOUT` seconds for Kafka.

        What was received and is not known to be in Kafka by then is named in one line of the log.
        Raises WeirError where Kafka refuses a record for good.
        """
        reporting = asyncio.create_task(self._report_for_ever())
        try:
            while True:
                await self._producer.ready(PATIENCE)
                incoming = await self._connection.receive()
                self._in_hand = True
                await self._forward(incoming)
                self._in_hand = False
        except FeedClosedError:
            _log.info("feed.read_to_the_end", **self.counts)
        finally:
            reporting.cancel()
            left = await self._producer.close(STOP_TIMEOUT)
            if left or self._in_hand:
                _log.error("feed.left_behind", unacknowledged=left, message_in_hand=self._in_hand)
            self._report()

    async def _forward(self, incoming: Incoming) -> None:
        self.counts["messages"] += 1
        for part in self._classifier.parts(incoming.data):
            if isinstance(part, Communications):
                timestamp = self._timestamps.communications(self._clock())
                await self._producer.send(self._communications, part.value, timestamp=timestamp)
                self.counts["communications"] += part.count
            elif isinstance(part, Relations):
                await self._relate(part)
            else:
                await self._refuse(part, incoming)

    async def _relate(self, part: Relations) -> None:
        timestamp = self._timestamps.relations(self._clock())
        for key, value in part.records:
            await self._producer.send(self._relations, value, key, timestamp)
        await self._producer.drain()
        self.counts["relations"] += len(part.records)

    async def _refuse(self, part: RefusedElement, incoming: Incoming) -> None:
        now = self._clock()
        origin = Origin(
            part.reason,
            part.detail,
            source=self._connection.name,
            offset=incoming.number,
            element=part.element,
            timestamp=now,
            size=len(part.raw) if len(part.raw) > MAX_DEAD_LETTER else None,
        )
        headers = to_headers(origin)
        await self._producer.send(self._dead_letters, part.raw[:MAX_DEAD_LETTER], timestamp=now, headers=headers)
        self.counts["refused"] += 1

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._report()

    def _report(self) -> None:
        """The reader's part of the status, and one line where messages were refused since the last."""
        facts: dict[str, Fact] = {**self.counts, "unacknowledged": self._producer.pending}
        if (stalled := self._producer.stalled_for) >= PATIENCE:
            facts |= {"waiting_for": "Kafka", "waiting_s": _in_fives(stalled)}
        if (silent := _in_fives(self._connection.silent_for)) > 0:
            facts["silent_s"] = silent
        self._status.reader(**facts)
        if (refused := self.counts["refused"]) > self._refused_said:
            _log.warning("feed.refused", messages=refused - self._refused_said, topic=self._dead_letters)
            self._refused_said = refused


def _in_fives(seconds: float) -> int:
    """Whole steps of five, so that the status file is not rewritten every second for them."""
    return int(seconds) // 5 * 5
