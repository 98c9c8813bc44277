"""The system test as a case of the fault runner: what is sent, when everything is processed, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from chaos.cases import SETTLE_S
from eos import jobs
from eos.topics import DATA, JUDGED, KEYS, SPREAD, SUM, TOPICS, integer, key_of, long
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import consumer, ensure_topics, producer
from weir.schemas.topic import Topic
from weir.streams.engine.progress.ledger_reader import LedgerReader


class Eos:
    """Random values to `data`, as EosTestDriver sends them but that the value tells the key; both jobs are to be
    through with all of them.
    """

    jobs: Sequence[str] = jobs.NAMES

    def __init__(self, config: Config, seed: int, _events: int) -> None:
        jobs.register()
        ensure_topics(config, TOPICS)
        self.config, self.acknowledged = config, 0
        self._random = Random(seed)
        # A broker that is away for long must cost no record: the producer tries until the run is over.
        self._producer = producer(config, **{"message.timeout.ms": 0, "queue.buffering.max.messages": 1_000_000})
        self._ledgers = [LedgerReader(config, job(config)) for job in (jobs.min_sum, jobs.max_cnt)]

    def processed(self) -> int:
        return self._ledgers[1].read().merged

    def send(self, events: int) -> None:
        for _ in range(events):
            value = self._random.randrange(KEYS * SPREAD)
            self._producer.produce(DATA.name, integer(value), key_of(value), on_delivery=self._delivered)
        self._producer.poll(0)

    def flush(self) -> None:
        self.finish()

    def finish(self) -> None:
        assert self._producer.flush(120) == 0, "the broker has not acknowledged all records"

    def check(self, tick: Callable[[], None]) -> None:
        """Waits until both jobs are through: whether what they wrote is right is the verifier's to say."""
        until(lambda: all(one.read().merged >= self.acknowledged for one in self._ledgers), tick, SETTLE_S)

    def check_so_far(self, topic: str, is_anew: bool) -> None:
        """The verifier wants jobs that are through."""
        raise NotImplementedError

    def written(self, isolation: str) -> dict[str, int]:
        """Topic to how many records it has for a reader at that isolation level."""
        return {topic.name: self._count(topic, isolation) for topic in JUDGED}

    def add_one(self) -> None:
        """Writes one record more to `sum`, which is wrong."""
        self._producer.produce(SUM.name, long(1), "1")
        self.finish()

    def _count(self, topic: Topic, isolation: str) -> int:
        reader = consumer(self.config, None, **{"isolation.level": isolation, "enable.partition.eof": True})
        reader.assign([TopicPartition(topic.name, p, OFFSET_BEGINNING) for p in range(self.config.kafka.partitions)])
        found, unread = 0, self.config.kafka.partitions
        while unread:
            for message in reader.consume(10_000, 1.0):
                error = message.error()
                if error is None:
                    found += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread -= 1
        reader.close()
        return found

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        assert error is None, error
        self.acknowledged += 1
