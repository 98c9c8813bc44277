"""Dead letters read, and replayed exactly once: the records and the mark that they were sent are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from weir.infra.config import Config
from weir.infra.dead_letters.letters import CannotReplayError, Letter, Sending, parse_position, to_letter
from weir.infra.errors import FencedError, InDoubtError, KafkaUnavailableError
from weir.infra.kafka.topic_reader import TopicReader
from weir.infra.kafka.transactional import TransactionalProducer
from weir.schemas.dead_letters import REPLAYED_FROM, Replay
from weir.schemas.errors import WeirError
from weir.schemas.times import to_rfc3339
from weir.schemas.topics import DEAD_LETTER_REPLAYS, DEAD_LETTERS

#: A transaction ends once it has this many letters, or this many bytes.
LETTERS, BYTES = 1000, 16 << 20


def letters(config: Config) -> Iterator[Letter]:
    """Every dead letter there is, oldest first. Raises KafkaUnavailableError."""
    with TopicReader(config, DEAD_LETTERS) as reader:
        for record in reader.to_the_end():
            yield to_letter(record)


def letter_at(config: Config, position: str) -> Letter:
    """Returns the dead letter at "partition/offset". Raises WeirError if there is none."""
    partition, offset = parse_position(position)
    with TopicReader(config, DEAD_LETTERS, partition=partition, start=offset) as reader:
        record = next(reader.to_the_end(), None)
    if record is None or record.offset != offset:
        raise WeirError(f"no dead letter at {position}; `weir dead-letters list` shows the positions")
    return to_letter(record)


def replays(config: Config) -> dict[str, Replay]:
    """Returns the latest replay of each dead letter, by the dead letter's position."""
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
        self._producer = TransactionalProducer(config, config.topic(DEAD_LETTER_REPLAYS.name))
        with _translated():
            self._producer.open()
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
        with _translated(), self._producer.transaction():
            for sending in batch:
                self._produce(sending, at)
        return len(batch)

    def _produce(self, sending: Sending, at: str) -> None:
        mark, position = Replay(sending.position, sending.topic.name, at), sending.position.encode()
        for record in sending.records:
            self._producer.produce(
                sending.topic.name,
                record.value,
                record.key,
                headers=[(REPLAYED_FROM, position)],
                timestamp=record.timestamp,
            )
        self._producer.produce(DEAD_LETTER_REPLAYS.name, msgspec.json.encode(mark), position)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FencedError as e:
        raise CannotReplayError("another replay has started; dead letters not listed so far were not sent") from e
    except InDoubtError as e:
        raise KafkaUnavailableError(str(e)) from e
