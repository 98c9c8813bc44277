"""Dead letters read, and replayed exactly once: the records and the mark that they were sent are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
from confluent_kafka import KafkaError, KafkaException

from infra import kafka
from infra.config import Config
from infra.dead_letters import CannotReplayError, Letter, Sending, parse_position, to_letter
from infra.topic_reader import TopicReader
from schemas.dead_letters import REPLAYED_FROM, Replay
from schemas.errors import WeirError
from schemas.times import to_rfc3339
from schemas.topics import DEAD_LETTER_REPLAYS, DEAD_LETTERS

#: How long a step of a transaction may take.
PATIENCE_S = 30.0
#: A transaction ends once it has this many letters, or this many bytes.
LETTERS, BYTES = 1000, 16 << 20
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def letters(config: Config) -> Iterator[Letter]:
    """Every dead letter there is, oldest first. Raises KafkaUnavailableError."""
    with TopicReader(config, DEAD_LETTERS) as reader:
        for record in reader.to_the_end():
            yield to_letter(record)


def letter_at(config: Config, position: str) -> Letter:
    """The letter at "partition/offset". Raises WeirError where there is none."""
    partition, offset = parse_position(position)
    with TopicReader(config, DEAD_LETTERS, partition=partition, start=offset) as reader:
        record = next(reader.to_the_end(), None)
    if record is None or record.offset != offset:
        raise WeirError(f"there is no dead letter at {position}")
    return to_letter(record)


def replays(config: Config) -> dict[str, Replay]:
    """What was replayed, by position: the latest replay of each."""
    decode = msgspec.json.Decoder(Replay).decode
    found = {}
    with TopicReader(config, DEAD_LETTER_REPLAYS) as reader:
        for record in reader.to_the_end():
            if record.value is not None:
                replay = decode(record.value)
                found[replay.position] = replay
    return found


class Replayer:
    """The one replay that can be under way: a later one fences it off, also in mid-transaction.

    So what `replayed` said when this one started holds until it has sent something itself.
    """

    def __init__(self, config: Config, now: Callable[[], float] = time.time) -> None:
        """Raises KafkaUnavailableError. Ends what an earlier replay left open."""
        self._config = config
        self._now = now
        self._producer = kafka.producer(config, **{"transactional.id": config.topic(DEAD_LETTER_REPLAYS.name)})
        with _translated():
            self._producer.init_transactions(PATIENCE_S)
        self.replayed = replays(config)

    def send(self, sendings: Iterable[Sending]) -> Iterator[int]:
        """Sends them in transactions; yields how many letters each one held, once it is committed.

        Raises CannotReplayError where another replay has taken over, KafkaUnavailableError where Kafka is away, and
        WeirError where Kafka refuses a record: the records and marks of the transaction that was open then stand or
        fall together.
        """
        batch: list[Sending] = []
        size = 0
        for sending in sendings:
            batch.append(sending)
            size += sum(len(record.value) for record in sending.records)
            if len(batch) >= LETTERS or size >= BYTES:
                yield self._transaction(batch)
                batch, size = [], 0
        if batch:
            yield self._transaction(batch)

    def _transaction(self, batch: list[Sending]) -> int:
        at = to_rfc3339(int(self._now() * 1000))
        with _translated():
            self._producer.begin_transaction()
            try:
                for sending in batch:
                    self._produce(sending, at)
            except KafkaException as e:
                self._abort(e)
                raise
            try:
                self._producer.commit_transaction(PATIENCE_S)
            except KafkaException as e:
                if e.args[0].txn_requires_abort():
                    self._abort(e)
                raise
        return len(batch)

    def _abort(self, why: KafkaException) -> None:
        if not why.args[0].fatal():
            self._producer.abort_transaction(PATIENCE_S)

    def _produce(self, sending: Sending, at: str) -> None:
        topic = self._config.topic(sending.topic.name)
        mark = Replay(sending.position, sending.topic.name, at)
        for record in sending.records:
            self._hand_over(
                topic,
                value=record.value,
                key=record.key,
                timestamp=record.timestamp or 0,
                headers=[(REPLAYED_FROM, sending.position.encode())],
            )
        marks = self._config.topic(DEAD_LETTER_REPLAYS.name)
        self._hand_over(marks, value=msgspec.json.encode(mark), key=sending.position.encode())

    def _hand_over(self, topic: str, **record: object) -> None:
        while True:
            try:
                self._producer.produce(topic, **record)  # type: ignore[arg-type]
                return
            except BufferError:
                self._producer.poll(0.1)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KafkaException as e:
        if e.args[0].code() in _FENCED:
            raise CannotReplayError("another replay has started meanwhile; what is not yet said was not sent") from e
        raise kafka.translate(e) from e
