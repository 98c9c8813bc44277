"""The waits that a worker reports, without a broker and with a clock of the test's."""

from __future__ import annotations

import pytest

from weir.infra.errors import KafkaUnavailableError, TopicMissingError
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.progress.waits import MISSING_S, OPEN_S, Blocked, Waits

AWAY = KafkaUnavailableError("Kafka does not answer at h:1")
GONE = TopicMissingError("Kafka at h:1 does not have relations")


class Clock:
    """Seconds, as a test sets them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waits(clock: Clock) -> Waits:
    return Waits(clock)


def test_of_several_reasons_the_oldest_is_said_until_it_is_over(waits: Waits, clock: Clock) -> None:
    waits.unanswered(AWAY)
    clock.now += 1
    waits.begin("open", "tasks.waiting", "a commit is in doubt")
    assert waits.reason == "Kafka does not answer at h:1"
    waits.answered()
    assert waits.reason == "a commit is in doubt"
    waits.end("open")
    assert waits.reason is None


def test_kafka_may_be_away_for_ever(waits: Waits, clock: Clock) -> None:
    for _ in range(100):
        waits.unanswered(AWAY)
        clock.now += MISSING_S


def test_a_topic_that_stays_missing_is_told_by_its_name(waits: Waits, clock: Clock) -> None:
    waits.unanswered(GONE)
    clock.now += MISSING_S
    waits.unanswered(GONE)
    clock.now += 1
    with pytest.raises(EngineError, match=r"Kafka at h:1 does not have relations.*gave up after 30 s"):
        waits.unanswered(GONE)


def test_a_topic_that_comes_back_is_waited_for_anew_when_it_goes_again(waits: Waits, clock: Clock) -> None:
    for _ in range(3):
        waits.unanswered(GONE)
        clock.now += MISSING_S
        waits.answered()
    assert waits.reason is None


def test_a_transaction_that_stays_open_is_told_with_its_place(waits: Waits, clock: Clock) -> None:
    blocked = Blocked(waits, clock)
    assert blocked.at("relations", 2, 17) == 0
    assert waits.reason is None
    clock.now += OPEN_S
    assert blocked.at("relations", 2, 17) == OPEN_S
    assert "relations[2] offset 17" in (waits.reason or "")
    blocked.free("relations", 2)
    assert waits.reason is None


def test_transactions_that_end_one_after_the_other_are_no_wait(waits: Waits, clock: Clock) -> None:
    blocked = Blocked(waits, clock)
    for offset in range(10):
        assert blocked.at("relations", 0, offset) == 0
        clock.now += OPEN_S / 2
    assert waits.reason is None


def test_what_is_no_longer_read_is_no_longer_waited_for(waits: Waits, clock: Clock) -> None:
    blocked = Blocked(waits, clock)
    for partition in (0, 1):
        blocked.at("relations", partition, 5)
    clock.now += OPEN_S
    for partition in (0, 1):
        blocked.at("relations", partition, 5)
    blocked.forget()
    assert waits.reason is None
