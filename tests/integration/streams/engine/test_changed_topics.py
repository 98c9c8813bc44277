"""Topics that change under a job on a real Kafka: refused by name before anything is processed, and `weir reset` leads
out of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from confluent_kafka import TopicPartition

from chaos.topics import grow, make_anew
from support.engine import keyed_totals as totals
from support.links.communications import Source
from support.wait import PATIENCE_S
from support.workers import Results
from weir.cli import reset as command
from weir.infra.config import Config
from weir.infra.kafka import topic_settings
from weir.infra.kafka.client import admin, consumer, ensure_topics, producer
from weir.schemas.topic import Topic
from weir.schemas.topics import DEAD_LETTERS, TOPICS
from weir.streams.engine.admin.reset import Reset
from weir.streams.engine.core.errors import (
    JobRefusedError,
    PartitionsChangedError,
    PartitionsDifferError,
    SourceOffsetLostError,
    StateAtRiskError,
    StateLostError,
    StateWithoutOffsetError,
    TopicReplacedError,
)
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.offset_metadata import VERSION
from weir.streams.engine.dataplane import dataplane
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.dataplane.reader import Slice
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.jobs import links

DIRECT = totals.job("direct")


def delete(config: Config, *topics: str) -> None:
    client = admin(config)
    for future in client.delete_topics([config.topic(topic) for topic in topics]).values():
        future.result()
    group = Group(config, "deleted")
    while group.describe(topics):
        pass


def pay(config: Config, number: int, start: int = 0) -> None:
    """Payments of 1, each client's in one partition; a client's total is how many were sent."""
    client = producer(config)
    for n in range(start, start + number):
        value = msgspec.json.encode(totals.Payment(f"client-{n % 10}", n, 1))
        client.produce(config.topic("payments"), value, key=f"client-{n % 10}")
    assert client.flush(30) == 0


def accounts(config: Config) -> dict[str, int]:
    """Each client's total, as the changelog has it: over all partitions, since a client's payments may be in two after
    the source has grown.
    """
    group, found = Group(config, "reader"), {}
    for p in range(group.partitions("accounts")):
        for record in read_to(config, "accounts", p, *group.ends("accounts", p)):
            found[p, (record.key() or b"").decode()] = msgspec.msgpack.decode(record.value() or b"")[0]["total"]
    sums: Counter[str] = Counter()
    for (_, client), total in found.items():
        sums[client] += total
    return dict(sums)


def everything(config: Config, job: Job) -> set[tuple[str, int]]:
    group = Group(config, job.name)
    return {(task.topic.name, p) for task in job.tasks for p in range(group.partitions(task.topic.name))}


async def ticking(done: Callable[[], Any], failures: list[BaseException]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not failures and not await asyncio.to_thread(done):
            await asyncio.sleep(0.05)


def play(
    config: Config, job: Job, done: Callable[[], Any], only: set[tuple[str, int]] | None = None
) -> list[BaseException]:
    """Runs the job's tasks (or `only` some) until `done`, or until they give up; what they gave up for."""
    failures: list[BaseException] = []

    async def deliver(piece: Slice) -> None:
        await piece.task.handle(piece.start, piece.records, piece.idle, piece.left)

    async def run() -> None:
        plane = DataPlane(config, job, deliver, failures.append)
        try:
            await plane.assign(everything(config, job) if only is None else only)
            await ticking(done, failures)
        finally:
            await plane.stop()

    asyncio.run(run())
    return failures


def refused(config: Config, job: Job, only: set[tuple[str, int]] | None = None) -> JobRefusedError:
    """Why the job does not start."""
    [error] = play(config, job, lambda: False, only)
    assert isinstance(error, JobRefusedError), error
    return error


def reset(config: Config, job: Job) -> None:
    command._run(config, Reset(config, job), job, {})


@pytest.fixture
def paid(config: Config) -> LedgerReader:
    """A keyed job that has counted 200 payments of ten clients."""
    ensure_topics(config, [*DIRECT.writes, DIRECT.source, DEAD_LETTERS])
    ledger = LedgerReader(config, DIRECT)
    pay(config, 200)
    assert play(config, DIRECT, lambda: ledger.read().merged == 200) == []
    return ledger


def recounted(config: Config, ledger: LedgerReader, number: int) -> bool:
    """Whether a reset makes the job one that counts all there is."""
    reset(config, DIRECT)
    assert play(config, DIRECT, lambda: ledger.read().merged == number) == []
    return accounts(config) == {f"client-{n}": number // 10 for n in range(10)}


@pytest.mark.parametrize("topics", [("payments",), ("payments", "accounts", "receipts")], ids=["source", "all"])
def test_a_partition_that_the_state_does_not_know_is_never_processed_and_a_reset_counts_with_it(
    config: Config, paid: LedgerReader, topics: tuple[str, ...]
) -> None:
    grow(config, *topics)
    pay(config, 100, 200)
    for only in ({("payments", 4)}, {("payments", 0)}, None):
        error = refused(config, DIRECT, only)
        assert isinstance(error, PartitionsChangedError)
        assert "topic payments has 5 partitions, but had 4" in str(error)
        assert f"`weir reset {DIRECT.name}`" in str(error)
    assert accounts(config) == {f"client-{n}": 20 for n in range(10)}
    assert recounted(config, paid, 300)


def test_a_topic_that_grows_under_running_tasks_ends_them(
    config: Config, paid: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataplane, "LOOK_S", 0.05)
    pay(config, 10, 200)
    grown: list[None] = []

    def done() -> bool:
        if not grown and paid.read().merged == 210:
            grown.append(grow(config, "payments"))
        return False

    [error] = play(config, DIRECT, done)
    assert isinstance(error, PartitionsChangedError)


def test_a_source_that_is_made_anew_under_running_tasks_ends_them_and_the_way_out_is_told(
    config: Config, paid: LedgerReader
) -> None:
    pay(config, 10, 200)
    anew: list[None] = []

    def done() -> bool:
        if not anew and paid.read().merged == 210:
            anew.append(make_anew(config, DIRECT.source))
        return False

    [error] = play(config, DIRECT, done)
    assert isinstance(error, SourceOffsetLostError | TopicReplacedError)
    assert f"`weir reset {DIRECT.name}`" in str(error)


def test_a_changelog_that_grows_alone_is_refused(config: Config, paid: LedgerReader) -> None:
    grow(config, "accounts")
    error = refused(config, DIRECT)
    assert isinstance(error, PartitionsDifferError)
    assert "topic accounts has 5 partitions" in str(error)
    assert recounted(config, paid, 200)


def test_a_changelog_that_was_deleted_and_made_anew_is_no_empty_state(config: Config, paid: LedgerReader) -> None:
    delete(config, "accounts")
    ensure_topics(config, DIRECT.writes)
    error = refused(config, DIRECT)
    assert isinstance(error, TopicReplacedError)
    assert "topic accounts was deleted and created again" in str(error)
    assert recounted(config, paid, 200)


def test_a_changelog_that_lost_its_beginning_is_no_empty_state(config: Config, paid: LedgerReader) -> None:
    Reset(config, DIRECT).delete_records(totals.ACCOUNTS)
    error = refused(config, DIRECT)
    assert isinstance(error, StateLostError)
    assert "records were deleted" in str(error)
    assert recounted(config, paid, 200)


def test_a_changelog_that_kafka_would_delete_from_is_refused_until_it_is_as_declared(
    config: Config, paid: LedgerReader
) -> None:
    topic_settings.alter(config, "accounts", {"cleanup.policy": "delete"})
    error = refused(config, DIRECT)
    assert isinstance(error, StateAtRiskError)
    assert "topic accounts has cleanup.policy=delete, declared is compact" in str(error)
    assert "`weir topics --update`" in str(error)
    topic_settings.update(config, [totals.ACCOUNTS])
    pay(config, 100, 200)
    assert play(config, DIRECT, lambda: paid.read().merged == 300) == []
    topic_settings.alter(config, "accounts", {"cleanup.policy": "delete"})
    assert recounted(config, paid, 300)


def test_a_source_that_was_deleted_and_made_anew_is_refused(config: Config, paid: LedgerReader) -> None:
    delete(config, "payments")
    ensure_topics(config, [DIRECT.source])
    pay(config, 100)
    assert isinstance(refused(config, DIRECT), TopicReplacedError | StateWithoutOffsetError)
    assert recounted(config, paid, 100)


def test_an_offset_beyond_the_end_of_its_partition_is_refused(config: Config, paid: LedgerReader) -> None:
    group = Group(config, DIRECT.name)
    at = group.committed("payments", 4)
    client = consumer(config, DIRECT.name)
    client.commit(
        offsets=[TopicPartition(config.topic("payments"), p, one.offset + 9, one.state) for p, one in at.items()],
        asynchronous=False,
    )
    client.close()
    assert isinstance(refused(config, DIRECT), SourceOffsetLostError)


def test_what_a_version_without_envelopes_committed_goes_on_exactly(config: Config, paid: LedgerReader) -> None:
    group = Group(config, DIRECT.name)
    before = group.committed("payments", 4)
    assert {one.version for one in before.values()} == {VERSION}
    client = consumer(config, DIRECT.name)
    client.commit(
        offsets=[TopicPartition(config.topic("payments"), p, one.offset, one.state) for p, one in before.items()],
        asynchronous=False,
    )
    client.close()
    assert {one.version for one in group.committed("payments", 4).values()} == {0}
    pay(config, 100, 200)
    assert play(config, DIRECT, lambda: paid.read().merged == 300) == []
    assert accounts(config) == {f"client-{n}": 30 for n in range(10)}
    after = group.committed("payments", 4)
    written = [after[p] for p in after if after[p].offset != before[p].offset]
    assert [(one.version, one.topics[0].partitions, one.log is not None) for one in written] == [
        (VERSION, 4, True)
    ] * len(written)
    delete(config, "accounts")
    ensure_topics(config, DIRECT.writes)
    assert isinstance(refused(config, DIRECT), TopicReplacedError)


def test_growth_is_refused_though_nothing_but_offsets_without_envelopes_says_what_there_was(
    config: Config, paid: LedgerReader
) -> None:
    group = Group(config, DIRECT.name)
    client = consumer(config, DIRECT.name)
    before = group.committed("payments", 4)
    client.commit(
        offsets=[TopicPartition(config.topic("payments"), p, one.offset, one.state) for p, one in before.items()],
        asynchronous=False,
    )
    client.close()
    grow(config, "payments", "accounts", "receipts")
    pay(config, 100, 200)
    assert isinstance(refused(config, DIRECT, {("payments", 4)}), PartitionsChangedError)


def test_the_end_of_the_changelog_is_committed_as_the_flush_before_left_it(config: Config, paid: LedgerReader) -> None:
    pay(config, 10, 200)
    assert play(config, DIRECT, lambda: paid.read().merged == 210) == []
    group = Group(config, DIRECT.name)
    for p, one in group.committed("payments", 4).items():
        assert one.log is not None
        first, end = group.ends("accounts", p)
        assert one.log.first == first == 0
        assert 0 < one.log.end < end


@pytest.fixture
def linked(config: Config) -> tuple[Job, Results, Source]:
    """The links job as shipped, with 300 events counted."""
    ensure_topics(config)
    source, results, job = Source(config, seed=3), Results(config), links.job(config)
    source.send(300)
    assert play(config, job, lambda: results.merged == 300) == []
    return job, results, source


def changed(config: Config, topics: list[Topic], what: str, names: tuple[str, ...]) -> None:
    if what == "grown":
        grow(config, *names)
    else:
        delete(config, *names)
        ensure_topics(config, topics)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("grown", ("links-partials", "link-counts", "link-windows")),
        ("grown", ("relations",)),
        ("anew", ("communications",)),
        ("anew", ("relations",)),
        ("anew", ("link-counts",)),
        ("anew", ("links-partials", "link-counts", "link-windows")),
    ],
    ids=["partials-grown", "view-grown", "source-anew", "view-anew", "results-anew", "all-its-own-anew"],
)
def test_no_topic_that_the_links_job_relies_on_changes_silently(
    config: Config, linked: tuple[Job, Results, Source], what: str, names: tuple[str, ...]
) -> None:
    job, results, source = linked
    changed(config, [topic for topic in TOPICS if topic.name in names], what, names)
    error = refused(config, job)
    assert any(name in str(error) for name in names)
    assert "`weir reset links`" in str(error)
    reset(config, job)
    if names == ("communications",):
        source.expected = Counter()
        source.sent = 0
        source.send(100)
    if names == ("relations",) and what == "anew":
        return  # no relation is there any more: all events are refused now
    assert play(config, job, lambda: results.merged == source.sent) == []
    assert results.counts() == source.expected
