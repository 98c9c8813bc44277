"""Records into Kafka, and what became of each: a producer for the callbacks of one event loop.

`BoundedProducer` waits where its queue is full, for callers that can; here nobody has to wait, and each record's fate
is told to whoever sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from weir.infra.config import Config
from weir.infra.errors import WeirError
from weir.infra.kafka import client as kafka
from weir.schemas.dead_letters import Headers

#: How long Kafka may acknowledge nothing of what waits before it counts as away, in seconds.
PATIENCE = 2.0
#: Seconds between two looks at what Kafka has acknowledged; rarer where nothing moves.
_LOOK, _RARE_LOOK = 0.002, 0.05
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)

#: Told what became of one record: None where Kafka has it, else why not. The record comes with it where it was sent.
OnDelivery = Callable[[WeirError | None, Message | None], None]
#: The same as the driver calls it.
Delivered = Callable[[KafkaError | None, Message], None]


class AcknowledgedProducer:
    """Sends records, each exactly once, in the order of each partition's, and tells their fates in that order.

    `producer` is idempotent, and this one's alone; `config` names its Kafka. `on_turn` is called after fates
    were told, and now and then while records wait. `is_silent` while Kafka has told nothing of what waits for
    `PATIENCE` seconds. `failed` is done with a WeirError where nothing can be written any more.
    """

    def __init__(self, config: Config, producer: Producer, on_turn: Callable[[], None]) -> None:
        self._config, self._producer = config, producer
        self._on_turn = on_turn
        self._timer: asyncio.TimerHandle | None = None
        self._sent = self._settled = 0
        self._progress = time.monotonic()
        self._all_settled = asyncio.Event()
        self._all_settled.set()
        self.is_silent = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        """Returns how many records have no delivery result yet."""
        return len(self._producer)

    def delivery_callback(self, on_delivery: OnDelivery) -> Delivered:
        """Returns a delivery callback for `send`, which calls `on_delivery`; one callback may serve many records.

        `on_delivery` is not called where nothing can be written any more, nor for what `flush` gives up.
        """

        def delivered(error: KafkaError | None, record: Message) -> None:
            if error is None:
                on_delivery(None, record)
            elif not self._is_over(error):
                on_delivery(kafka.translate(error, self._config, record.topic()), record)

        return delivered

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None,
        delivered: Delivered,
        *,
        partition: int = -1,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> bool:
        """Takes one record; False where the queue has no room for it. `timestamp` in epoch milliseconds, 0: now.

        Raises WeirError where this one cannot be sent.
        """
        if key == b"" and partition < 0:
            partition = kafka.partition_for(key)
        try:
            if headers:
                self._producer.produce(topic, value, key, partition, delivered, timestamp=timestamp, headers=[*headers])
            else:
                self._producer.produce(topic, value, key, partition, delivered, timestamp=timestamp)
        except BufferError:
            return False
        except KafkaException as e:
            if self._is_over(e.args[0]):
                return True
            raise kafka.translate(e, self._config, topic) from e
        self._sent += 1
        if self._timer is None:
            self._all_settled.clear()
            self._progress = time.monotonic()  # nothing was waiting: Kafka's silence starts now at the earliest
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._turn)
        return True

    async def flush(self, timeout: float) -> int:
        """Gives Kafka `timeout` seconds for what is left, and gives up the rest; how many that were."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._all_settled.wait()
        self._producer.poll(0)  # what it has to say of Kafka itself is no record that is left
        left = len(self._producer)
        if self._timer is not None:
            self._timer.cancel()
        self._producer.purge()
        self._producer.flush(0)
        return left

    def _is_over(self, error: KafkaError) -> bool:
        """Whether it is not about the record: it was given up, or nothing can be written any more."""
        if error.code() in _PURGED:
            return True
        if not error.fatal() and error.code() != KafkaError._FATAL:
            return False
        if not self.failed.done():
            why = kafka.translate(error, self._config)
            self.failed.set_exception(WeirError(f"the producer has failed and cannot write any more: {why}"))
            self._all_settled.set()
        return True

    def _turn(self) -> None:
        """Tells what is known by now, and looks again as long as something waits."""
        self._producer.poll(0)
        now, waiting = time.monotonic(), len(self._producer)
        if self._sent - waiting > self._settled or not waiting:
            self._settled, self._progress = self._sent - waiting, now
        self.is_silent = now - self._progress >= PATIENCE
        self._on_turn()
        self._timer = None
        if len(self._producer):
            look = _RARE_LOOK if now - self._progress > 20 * _RARE_LOOK else _LOOK
            self._timer = asyncio.get_running_loop().call_later(look, self._turn)
        else:
            self._all_settled.set()
