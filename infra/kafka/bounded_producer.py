"""An idempotent Kafka producer for asyncio that holds a bounded number of unacknowledged records, for ever if need be.

confluent_kafka's own asyncio producer (2.16) was judged and not taken: it makes a future per record, refuses
headers, and puts a buffer of its own in front of librdkafka's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.threads import in_daemon
from weir.schemas.dead_letters import Headers
from weir.schemas.errors import WeirError


class BoundedProducer:
    """Sends records in order, each exactly once into its topic, however long Kafka is away.

    librdkafka's queue is the bound: `max_records` and `max_bytes` of unacknowledged records, then `send` waits. A
    record never expires (`message.timeout.ms` 0), so that an outage leaves no gap in the order. What Kafka refuses
    for good (a topic that is gone, a producer that failed fatally) is raised by the next call as WeirError; nothing
    after it can be relied on. Calls are for one task at a time.
    """

    def __init__(self, config: Config, *, max_records: int = 20_000, max_bytes: int = 64 << 20) -> None:
        self._config = config
        self._failure: WeirError | None = None
        self._producer = kafka.producer(
            config,
            **{
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": max_records,
                "queue.buffering.max.kbytes": max_bytes >> 10,
                "delivery.report.only.error": True,
                "on_delivery": self._failed,
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._sent = 0
        self._acknowledged = 0
        self._progress = time.monotonic()

    @property
    def pending(self) -> int:
        """How many records Kafka has not yet acknowledged."""
        return len(self._producer)

    @property
    def stalled_for(self) -> float:
        """Seconds for which records have been waiting and none was acknowledged; 0 while all goes well."""
        self._producer.poll(0)
        pending = len(self._producer)
        acknowledged = self._sent - pending
        if pending == 0 or acknowledged > self._acknowledged:
            self._acknowledged = acknowledged
            self._progress = time.monotonic()
            return 0.0
        return time.monotonic() - self._progress

    async def send(
        self, topic: str, value: bytes, key: bytes | None = None, timestamp: int = 0, headers: Headers | None = None
    ) -> None:
        """Queues one record; waits while the queue is full. `timestamp` in epoch milliseconds."""
        while True:
            self._raise_failure()
            try:
                self._producer.produce(
                    topic,
                    value,
                    key,
                    kafka.partition_for(key),
                    timestamp=timestamp,
                    headers=[*headers] if headers else [],
                )
            except BufferError:
                await in_daemon(lambda: self._producer.poll(0.1))
            except KafkaException as e:
                raise kafka.translate(e, self._config, topic) from e
            else:
                if self._acknowledged == self._sent:
                    self._progress = time.monotonic()  # nothing was waiting: Kafka's silence starts now at the earliest
                self._sent += 1
                return

    async def drain(self) -> None:
        """Waits until Kafka has acknowledged everything sent so far."""
        await self._wait(lambda: len(self._producer) == 0)

    async def ready(self, patience: float) -> None:
        """Returns at once, unless Kafka has been silent for `patience` seconds: then once it answers again."""
        if self.stalled_for >= patience:
            await self._wait(lambda: self.stalled_for < patience)
        self._raise_failure()

    async def close(self, timeout: float) -> int:
        """Gives Kafka `timeout` seconds for what is left, and gives up the rest; how many that were."""
        await in_daemon(lambda: self._producer.flush(timeout))
        left = len(self._producer)
        self._producer.purge()
        self._producer.flush(0)
        return left

    async def _wait(self, until: Callable[[], bool]) -> None:
        while not until():
            self._raise_failure()
            await in_daemon(lambda: self._producer.flush(0.2))
        self._raise_failure()

    def _failed(self, error: KafkaError | None, record: Message) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failure = self._failure or WeirError(
                f"a record for {record.topic()}: {kafka.translate(error, self._config, record.topic())}"
            )

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure
