"""Somebody's transaction stays open on a topic that a worker reads: what can be read is, and what waits says so."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from support.wait import PATIENCE_S, until
from support.workers import Results, Workers, workers
from weir.infra.config import Config
from weir.infra.errors import StoppedError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.client import ensure_topics
from weir.infra.kafka.partition_reader import edges
from weir.infra.runtime.status import ServiceStatus, read_all
from weir.schemas.topics import COMMUNICATIONS, LINK_COUNTS, RELATIONS
from weir.streams.engine.core.records import Record
from weir.streams.engine.dataplane.view_reader import ViewReader
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.engine.progress.waits import Waits


class Values:
    """A view that holds every value it was given."""

    topic = RELATIONS

    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    def apply(self, records: Sequence[Record]) -> None:
        self.values += [record.value() for record in records]


def transactional(config: Config) -> Producer:
    """A producer of somebody's, with the time that Kafka gives it by default."""
    made = kafka.producer(config, **{"transactional.id": f"{config.kafka.topic_prefix}{uuid.uuid4().hex}"})
    made.init_transactions(30)
    return made


def write(producer: Producer, config: Config, topic: str, value: bytes, partition: int = 0) -> None:
    """One record, acknowledged."""
    refused: list[str] = []
    producer.produce(
        config.topic(topic), value, b"key", partition, on_delivery=lambda error, _: refused.append(str(error))
    )
    assert producer.flush(30) == 0
    assert refused == ["None"]


@contextmanager
def left_open(config: Config, topic: str, value: bytes) -> Iterator[Producer]:
    """A transaction with one record in partition 0, open until the block commits it, or ends."""
    producer = transactional(config)
    producer.begin_transaction()
    write(producer, config, topic, value)
    try:
        yield producer
    finally:
        producer.abort_transaction(30)


def commit(producer: Producer, config: Config, topic: str) -> None:
    """Commits, and returns once what was committed can be read; begins the next transaction."""
    producer.commit_transaction(30)
    reader = kafka.consumer(config, None)
    group = Group(config, "nobody")
    until(lambda: edges(reader, config, topic, 0, 5)[1] == group.ends(topic, 0)[1])
    reader.close()
    producer.begin_transaction()


def view_of(config: Config, stopped: Callable[[], bool] = lambda: False) -> tuple[ViewReader, Values, Waits]:
    ensure_topics(config, [RELATIONS])
    values, waits = Values(), Waits()
    return ViewReader(config, Group(config, "test"), values, waits, stopped), values, waits


def test_a_view_is_gone_on_without_what_is_not_committed_and_has_it_once_it_is(config: Config) -> None:
    reader, view, waits = view_of(config)
    plain = kafka.producer(config)
    write(plain, config, "relations", b"before")
    with left_open(config, "relations", b"open") as producer:
        reader.catch_up()
        assert view.values == [b"before"]
        assert reader.is_behind
        until(lambda: reader.catch_up() or waits.reason is not None)
        assert "relations[0] offset 1:" in (waits.reason or "")
        commit(producer, config, "relations")
        reader.catch_up()
    assert view.values == [b"before", b"open"]
    assert (reader.is_behind, waits.reason) == (False, None)


@pytest.mark.parametrize("kind", ["plain", "transactional"])
def test_what_was_acknowledged_before_is_always_in_the_view(config: Config, kind: str) -> None:
    reader, view, _ = view_of(config)
    producer = transactional(config) if kind == "transactional" else kafka.producer(config)
    for number in range(50):
        if kind == "transactional":
            producer.begin_transaction()
        write(producer, config, "relations", b"%d" % number)
        if kind == "transactional":
            producer.commit_transaction(30)
        reader.catch_up()
        assert view.values[-1] == b"%d" % number


def test_a_view_that_nobody_wants_any_more_waits_for_no_transaction(config: Config) -> None:
    stopping = threading.Event()
    reader, _, _ = view_of(config, stopping.is_set)
    with left_open(config, "relations", b"open"):
        stopping.set()
        with pytest.raises(StoppedError):
            reader.catch_up()


def test_a_restore_waits_for_a_transaction_says_so_and_can_be_stopped(config: Config) -> None:
    ensure_topics(config, [LINK_COUNTS])
    write(kafka.producer(config), config, "link-counts", b"before")
    waits, stopping = Waits(), threading.Event()

    def restored() -> list[bytes | None]:
        return [record.value() for record in read_to(config, "link-counts", 0, 0, 2, stopping.is_set, waits)]

    with left_open(config, "link-counts", b"open") as producer, ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(restored)
        until(lambda: waits.reason is not None)
        assert "link-counts[0] offset 1:" in (waits.reason or "")
        stopping.set()
        with pytest.raises(StoppedError):
            stopped.result(PATIENCE_S)
        assert waits.reason is None
        stopping.clear()
        whole = pool.submit(restored)
        until(lambda: waits.reason is not None)
        commit(producer, config, "link-counts")
        assert whole.result(PATIENCE_S) == [b"before", b"open"]
        assert waits.reason is None


def call(source: str, destination: str) -> bytes:
    return b'{"source":"%s","destination":"%s"}' % (source.encode(), destination.encode())


def relation(parent: str, child: str) -> bytes:
    return b'{"parent":"%s","child":"%s"}' % (parent.encode(), child.encode())


def status(config: Config) -> ServiceStatus | None:
    return next((said for said in read_all(config) if said.name == "worker-links"), None)


def waits_for(config: Config) -> str:
    """Returns the reason that the worker gives for waiting; empty if the worker is not waiting."""
    said = status(config)
    return str(said.detail.get("error")) if said is not None and said.state == "waiting" else ""


def running(config: Config) -> bool:
    said = status(config)
    return said is not None and said.state == "running"


@pytest.fixture
def fleet(config: Config, environ: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    ensure_topics(config)
    plain = kafka.producer(config)
    for child in "ab":
        write(plain, config, "relations", relation(child.upper(), child))
    with workers(environ, tmp_path) as fleet:
        fleet.start("--name", "worker-links")
        until(lambda: running(config))
        yield fleet


def test_an_open_transaction_on_relations_does_not_stop_the_counting(config: Config, fleet: Workers) -> None:
    plain, results = kafka.producer(config), Results(config)
    with left_open(config, "relations", relation("Z", "z")) as producer:
        for number in range(20):
            write(plain, config, "communications", call("a", "b"), partition=number % 4)
            time.sleep(0.01)
        until(lambda: results.merged == 20)
        until(lambda: "relations[0] offset 2:" in waits_for(config))
        commit(producer, config, "relations")
        until(lambda: running(config))
        for number in range(20):
            write(plain, config, "communications", call("a", "z"), partition=number % 4)
        until(lambda: results.merged == 40)
    assert results.routed.dead == 0
    assert fleet.logs().count("transaction.open") == 1


def test_an_open_transaction_on_the_source_is_said_and_the_other_partitions_go_on(
    config: Config, fleet: Workers
) -> None:
    plain, results = kafka.producer(config), Results(config)
    with left_open(config, COMMUNICATIONS.name, call("a", "b")) as producer:
        until(lambda: "communications[0] offset 0:" in waits_for(config))
        write(plain, config, "communications", call("a", "b"), partition=1)
        until(lambda: results.merged == 1)
        commit(producer, config, COMMUNICATIONS.name)
        until(lambda: results.merged == 2)
        until(lambda: running(config))
