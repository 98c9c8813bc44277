"""Whose transactions end when a task opens, and which offset it then goes by."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from support.engine.planes import play_until
from weir.infra.config import Config
from weir.infra.errors import FencedError, KafkaUnavailableError
from weir.infra.kafka import client as kafka
from weir.schemas.topics import TOPICS
from weir.streams.engine.core.records import FlushBatch
from weir.streams.engine.dataplane.transactions import TaskProducer, former_id, transactional_id
from weir.streams.engine.progress import offsets
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import links


def test_a_worker_of_the_version_before_cannot_write_beside_one_of_this(config: Config) -> None:
    kafka.ensure_topics(config, TOPICS)
    group, job = Group(config, "links"), links.job(config)
    before = TaskProducer(config, former_id(config, "links", "communications", 0))
    before.open()
    assert play_until(config, job, lambda: True, of=["communications"]) == []
    with pytest.raises(FencedError):
        before.write(FlushBatch([], "[]"), "communications", 0, 0, group.metadata())


def test_an_offset_counts_once_no_transaction_is_committing_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "SETTLE_S", 0.5)
    monkeypatch.setattr(offsets, "TIMEOUT_S", 5.0)
    kafka.ensure_topics(config, TOPICS)
    group, name = Group(config, "links"), config.topic("communications")
    foreign = kafka.producer(config, **{"transactional.id": config.topic("foreign")})
    foreign.init_transactions(20)
    foreign.begin_transaction()
    foreign.send_offsets_to_transaction([TopicPartition(name, 0, 7, "[]")], group.metadata(), 20)
    assert group.committed("communications", 1) == {}
    with pytest.raises(KafkaUnavailableError, match=r"communications\[0\] .* is still open"):
        group.settled("communications", 0)
    assert group.settled("communications", 1) is None
    foreign.commit_transaction(20)
    settled = group.settled("communications", 0)
    assert settled is not None
    assert settled.offset == 7


def test_jobs_whose_names_run_together_have_ids_of_their_own(config: Config) -> None:
    ids = [("pages", "views-raw"), ("pages-views", "raw")]
    assert len({former_id(config, *one, 0) for one in ids}) == 1
    first, second = (TaskProducer(config, transactional_id(config, *one, 0)) for one in ids)
    kafka.ensure_topics(config, TOPICS)
    group = Group(config, "links")
    first.open()
    second.open()
    first.write(FlushBatch([], "[]"), "communications", 0, 0, group.metadata())
