"""Messages into topic `broadcast`, and what became of each.

A message that was read is kept, and the owner is told to read no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from weir.infra.config import Config
from weir.infra.errors import RetryableError, WeirError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.acknowledged import AcknowledgedProducer, OnDelivery
from weir.infra.runtime.threads import in_daemon
from weir.schemas.broadcast import BINARY, FRAME_HEADER
from weir.schemas.dead_letters import Headers
from weir.schemas.topic import MIB
from weir.schemas.topics import BROADCAST

#: Records and bytes that Kafka may not have acknowledged yet; then no more is read.
MAX_RECORDS = 20_000
MAX_BYTES = 64 * MIB
#: Seconds between two looks at how the topic is set up.
_WATCH = 5.0
#: Bytes of one record on top of key and value, at most: its batch's header, its own, and `weir.frame`.
_OVERHEAD = 128
#: A batch is refused whole, with the good that is in it: it must be far below what any topic allows for one message.
_BATCH = 64 << 10
_BINARY: Headers = [(FRAME_HEADER, BINARY)]


class BroadcastWriter:
    """Writes messages in order, each exactly once, however long Kafka is away. For one event loop.

    `is_held` while no more should be sent: too much waits (`MAX_RECORDS`, `MAX_BYTES`), or Kafka is silent (then
    `is_silent`, too). `on_change` is called when either changes, `on_turn` when fates were told.
    """

    def __init__(self, config: Config, on_turn: Callable[[], None], on_change: Callable[[], None]) -> None:
        self._config = config
        self._topic = config.topic(BROADCAST.name)
        self._on_turn, self._on_change = on_turn, on_change
        self._backlog: deque[tuple[int, bytes | None, bytes, bool, OnDelivery]] = deque()
        self._full = 0
        self.is_held = self.is_silent = False
        self.partitions = 0
        self.limit = 0

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, [BROADCAST], timeout=3))
        self._admin = kafka.admin(self._config)
        self.partitions, self.limit = await in_daemon(self._describe)
        producer = kafka.producer(
            self._config,
            **{
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": MAX_RECORDS,
                "queue.buffering.max.kbytes": MAX_BYTES >> 10,
                "linger.ms": 2,
                "batch.size": min(_BATCH, self.limit // 2),
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._records = AcknowledgedProducer(self._config, producer, self._turn)

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done with a WeirError where nothing can be written any more."""
        return self._records.failed

    @property
    def pending(self) -> int:
        """Returns how many messages have no delivery result yet."""
        return len(self._records) + len(self._backlog)

    def send(self, partition: int, key: bytes | None, data: bytes, binary: bool, on_delivery: OnDelivery) -> None:
        """Takes one message. Calls `on_delivery` later, in the order of one partition's messages, or at once with the
        reason why this message cannot be taken."""
        if len(data) + len(key or b"") + _OVERHEAD > self.limit:
            on_delivery(WeirError(f"the message has {len(data)} bytes, more than topic {self._topic} accepts"), None)
        elif self._backlog or not self._produce(partition, key, data, binary, on_delivery):
            self._backlog.append((partition, key, data, binary, on_delivery))
            if not self.is_held:  # now, and not at the next turn: every other sender may have sent as much by then
                self.is_held, self._full = True, len(self._records)
                self._on_change()

    async def flush(self, timeout: float) -> int:
        """Gives Kafka `timeout` seconds for what is left, and gives up the rest; how many that were."""
        left = await self._records.flush(timeout) + len(self._backlog)
        self._backlog.clear()
        return left

    def _produce(self, partition: int, key: bytes | None, data: bytes, binary: bool, on_delivery: OnDelivery) -> bool:
        """Whether the queue had room."""
        delivered, headers = self._records.delivery_callback(on_delivery), _BINARY if binary else None
        try:
            return self._records.send(self._topic, data, key, delivered, partition=partition, headers=headers)
        except WeirError as e:
            on_delivery(e, None)
            return True

    def _turn(self) -> None:
        """Sends on what had no room, and tells the owner."""
        while self._backlog and self._produce(*self._backlog[0]):
            self._backlog.popleft()
        self._on_turn()
        silent, waiting = self._records.is_silent, len(self._records)
        # Half of the queue must be free again: a sender that is stopped and let go for each message costs more.
        held = bool(self._backlog) or silent or (self.is_held and waiting > self._full // 2)
        if (held, silent) != (self.is_held, self.is_silent):
            self.is_held, self.is_silent = held, silent
            self._on_change()

    async def watch(self) -> None:
        """Follows what the topic takes, which may be changed while this runs; until cancelled.

        Raises WeirError where the topic has other partitions now: a channel would go to two of them.
        """
        while True:
            await asyncio.sleep(_WATCH)
            try:
                partitions, self.limit = await in_daemon(self._describe)
            except RetryableError:
                continue  # what is sent meanwhile finds out
            if partitions != self.partitions:
                raise WeirError(
                    f"topic {self._topic} has {partitions} partitions now, so its channels have moved: start again"
                )

    def _describe(self) -> tuple[int, int]:
        """How many partitions the topic has, and the longest batch of records that it takes. Blocks."""
        with kafka.translated(self._config):
            partitions = len(self._admin.list_topics(self._topic, timeout=3).topics[self._topic].partitions)
            resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
            [described] = self._admin.describe_configs([resource], request_timeout=3).values()
            return partitions, int(described.result()["max.message.bytes"].value)
