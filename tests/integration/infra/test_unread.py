"""Where the next record of a partition is, with control records and aborted ones before it."""

from __future__ import annotations

import pytest

from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.kafka import unread as looking
from weir.infra.kafka.unread import FEW, Unread
from weir.schemas.topics import MONITORING_EVENTS


def test_offsets_without_a_record_are_passed_over_and_an_open_transaction_is_not(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PATIENCE_S", 60.0)  # however busy the machine is
    clients.ensure_topics(config, [MONITORING_EVENTS])
    topic, place = MONITORING_EVENTS.name, (MONITORING_EVENTS.name, 0)
    producer = clients.producer(config, **{"transactional.id": config.topic("test")})
    unread = Unread(config)
    producer.init_transactions(30)

    def begin() -> None:
        producer.begin_transaction()
        producer.produce(config.topic(topic), b"x", partition=0)
        assert producer.flush(30) == 0

    def following(at: int, end: int) -> int:
        return unread.following({place: at}, {place: end})[place]

    begin()  # offset 0
    producer.abort_transaction(30)  # 1
    until(lambda: following(0, 2) == 2)  # an abort is acknowledged before its marker is written
    begin()  # 2
    # As it is for a moment when the marker at 3 is written, and not yet taken for the transaction's end.
    assert following(0, 4) == 2
    producer.abort_transaction(30)  # 3
    until(lambda: following(0, 4) == 4)
    begin()  # 4
    producer.commit_transaction(30)  # 5
    until(lambda: following(5, 6) == 6)
    assert following(0, 6) == 4
    assert following(0, FEW + 1) == 0  # nobody looks
    assert unread.following({place: 6, ("other", 0): 3}, {place: 6, ("other", 0): 3}) == {place: 6, ("other", 0): 3}
