"""The reader of partitions: records, positions and ends of the driver's messages, and topics lost or away."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from weir.infra import config as configuration
from weir.infra.errors import KafkaUnavailableError, OffsetLostError, RetryableError, WeirError
from weir.infra.kafka.partition_reader import PartitionReader
from weir.schemas.topic import PartitionId

CONFIG = configuration.load({"WEIR_TOPIC_PREFIX": "x-"})
A, B = ("t", 0), ("t", 1)


class Driver:
    """A consumer that has these messages."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)

    def consume(self, most: int, _: float) -> list[Any]:
        taken, self._messages = self._messages[:most], self._messages[most:]
        return taken


def record(place: PartitionId, offset: int) -> Any:
    return Message(topic=f"x-{place[0]}", partition=place[1], offset=offset, value=b"v")


def event(code: int, place: PartitionId, offset: int = -1) -> Any:
    return Message(topic=f"x-{place[0]}", partition=place[1], offset=offset, error=KafkaError(code))


def end(place: PartitionId, offset: int) -> Any:
    return event(KafkaError._PARTITION_EOF, place, offset)


def reader(*messages: Any, passing: Any = None) -> PartitionReader:
    made = PartitionReader(CONFIG, passing=passing)
    made.assign({A: 0, B: 3})
    made.consumer = Driver(*messages)
    return made


def test_records_come_by_partition_and_the_positions_are_behind_the_control_records_at_an_end() -> None:
    read = reader(record(A, 0), record(B, 3), record(A, 2), end(A, 5), end(B, 4), record(B, 6))
    found = {place: [one.offset() for one in records] for place, records in read.read(100, 0).items()}
    assert found == {A: [0, 2], B: [3, 6]}
    assert (read.positions, read.ended) == ({A: 5, B: 7}, {A: 5})


def test_a_partition_is_at_its_end_until_there_is_a_record_again() -> None:
    read = reader(end(A, 0), record(A, 0), end(B, 9))
    read.read(1, 0)
    assert read.ended == {A: 0}
    read.read(1, 0)
    read.read(1, 0)
    assert (read.positions, read.ended) == ({A: 1, B: 9}, {B: 9})


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_what_was_deleted_before_it_was_read_is_said_and_nothing_is_passed_over(code: int) -> None:
    read = reader(record(A, 0), end(A, 1), event(code, B))
    with pytest.raises(OffsetLostError, match=r"^x-t\[1\]: records from offset 3 on were deleted") as lost:
        read.read(100, 0)
    assert (lost.value.partition, read.positions, read.ended) == (B, {A: 0, B: 3}, {})


def test_what_passes_by_itself_is_told_or_raised() -> None:
    told: list[tuple[PartitionId, RetryableError]] = []
    away = event(KafkaError._TRANSPORT, A), record(B, 3)
    assert list(reader(*away, passing=lambda *what: told.append(what)).read(100, 0)) == [B]
    [(place, problem)] = told
    assert place == A
    assert isinstance(problem, KafkaUnavailableError)
    with pytest.raises(KafkaUnavailableError):
        reader(*away).read(100, 0)


def test_what_does_not_get_better_is_raised_in_any_case() -> None:
    refused = event(KafkaError.TOPIC_AUTHORIZATION_FAILED, A)
    with pytest.raises(WeirError, match=r"x-t\[0\] cannot be read"):
        reader(refused, passing=lambda *_: None).read(100, 0)
