"""Messages into topic `broadcast`, and what became of each: a producer for the callbacks of one event loop.

`BoundedProducer` waits where its queue is full. Here nobody can wait: a message that was read is kept, and the owner
is told to read no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from infra import kafka
from infra.config import Config
from infra.errors import RetryableError, WeirError
from infra.threads import in_daemon
from schemas.broadcast import BINARY, FRAME_HEADER
from schemas.topic import MIB
from schemas.topics import BROADCAST

#: Records and bytes that Kafka may not have acknowledged yet; then no more is read.
MAX_RECORDS = 20_000
MAX_BYTES = 64 * MIB
#: How long Kafka may acknowledge nothing of what waits before it counts as away, in seconds.
PATIENCE = 2.0
#: Seconds between two looks at what Kafka has acknowledged; rarer where nothing moves.
_LOOK, _RARE_LOOK = 0.002, 0.05
#: Seconds between two looks at how the topic is set up.
_WATCH = 5.0
#: Bytes of one record on top of key and value, at most: its batch's header, its own, and `weir.frame`.
_OVERHEAD = 128
#: A batch is refused whole, with the good that is in it: it must be far below what any topic allows for one message.
_BATCH = 64 << 10
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)

#: Told what became of one message: None where Kafka has it, else why not.
Fate = Callable[[str | None], None]


class BroadcastWriter:
    """Writes messages in order, each exactly once, however long Kafka is away. For one event loop.

    `is_held` while no more should be sent: too much waits (`MAX_RECORDS`, `MAX_BYTES`), or Kafka is silent
    (`PATIENCE`; then `is_silent`, too). `on_change` is called when either changes, `on_turn` when fates were told.
    `failed` is done with a WeirError where nothing can be written any more.
    """

    def __init__(self, config: Config, on_turn: Callable[[], None], on_change: Callable[[], None]) -> None:
        self._config = config
        self._topic = config.topic(BROADCAST.name)
        self._on_turn, self._on_change = on_turn, on_change
        self._backlog: deque[tuple[int, bytes | None, bytes, bool, Fate]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sent = self._settled = self._full = 0
        self._progress = time.monotonic()
        self._settled_all = asyncio.Event()
        self._settled_all.set()
        self.is_held = self.is_silent = False
        self.partitions = 0
        self.limit = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, [BROADCAST], timeout=3))
        self._admin = kafka.admin(self._config)
        self.partitions, self.limit = await in_daemon(self._describe)
        self._producer = kafka.producer(
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

    @property
    def pending(self) -> int:
        """How many messages have no fate yet."""
        return len(self._producer) + len(self._backlog)

    def send(self, partition: int, key: bytes | None, data: bytes, binary: bool, fate: Fate) -> None:
        """Takes one message. `fate` is called later, in the order of one partition's messages, or right away with
        why this one cannot be taken."""
        if len(data) + len(key or b"") + _OVERHEAD > self.limit:
            fate(f"the message has {len(data)} bytes, which is more than topic {self._topic} takes")
        elif self._backlog or not self._produce(partition, key, data, binary, fate):
            self._backlog.append((partition, key, data, binary, fate))
            if not self.is_held:  # now, and not at the next turn: every other sender may have sent as much by then
                self.is_held, self._full = True, len(self._producer)
                self._on_change()
        self._settled_all.clear()
        if self._timer is None:
            self._progress = time.monotonic()  # nothing was waiting: Kafka's silence starts now at the earliest
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._turn)

    async def flush(self, timeout: float) -> int:
        """Gives Kafka `timeout` seconds for what is left, and gives up the rest; how many that were."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settled_all.wait()
        left = self.pending
        if self._timer is not None:
            self._timer.cancel()
        self._backlog.clear()
        self._producer.purge()
        self._producer.flush(0)
        return left

    def _produce(self, partition: int, key: bytes | None, data: bytes, binary: bool, fate: Fate) -> bool:
        """Whether the queue had room."""

        def delivered(error: KafkaError | None, record: Message) -> None:
            if error is None:
                fate(None)
            else:
                self._refused(error, fate)

        try:
            if binary:
                headers: Iterable[tuple[str, bytes]] = [(FRAME_HEADER, BINARY)]
                self._producer.produce(self._topic, data, key, partition, delivered, headers=[*headers])
            else:
                self._producer.produce(self._topic, data, key, partition, delivered)
        except BufferError:
            return False
        except KafkaException as e:
            self._refused(e.args[0], fate)
            return True
        self._sent += 1
        return True

    def _refused(self, error: KafkaError, fate: Fate) -> None:
        if error.code() in _PURGED:
            return  # what is given up at the end has no fate: the sender was promised nothing
        if error.fatal() or error.code() == KafkaError._FATAL:
            if not self.failed.done():
                self.failed.set_exception(WeirError(f"nothing can be written any more: {kafka.translate(error)}"))
                self._settled_all.set()
            return
        fate(f"Kafka: {error.str()}")

    def _turn(self) -> None:
        """Tells what is known by now, sends on what had no room, and looks again as long as something waits."""
        self._producer.poll(0)
        while self._backlog and self._produce(*self._backlog[0]):
            self._backlog.popleft()
        self._on_turn()
        now, waiting = time.monotonic(), len(self._producer)
        if self._sent - waiting > self._settled or not waiting:
            self._settled, self._progress = self._sent - waiting, now
        silent = now - self._progress >= PATIENCE
        # Half of the queue must be free again: a sender that is stopped and let go for each message costs more.
        held = bool(self._backlog) or silent or (self.is_held and waiting > self._full // 2)
        self._timer = None
        if self.pending:
            look = _RARE_LOOK if now - self._progress > 20 * _RARE_LOOK else _LOOK
            self._timer = asyncio.get_running_loop().call_later(look, self._turn)
        else:
            self._settled_all.set()
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
                raise WeirError(f"topic {self._topic} has {partitions} partitions now: its channels have moved")

    def _describe(self) -> tuple[int, int]:
        """How many partitions the topic has, and the longest batch of records that it takes. Blocks."""
        try:
            partitions = len(self._admin.list_topics(self._topic, timeout=3).topics[self._topic].partitions)
            resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
            [described] = self._admin.describe_configs([resource], request_timeout=3).values()
            return partitions, int(described.result()["max.message.bytes"].value)
        except KafkaException as e:
            raise kafka.translate(e) from e
