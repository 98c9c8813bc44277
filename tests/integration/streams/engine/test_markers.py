"""Control records at the end of a topic hold nothing up: not the committed offsets, not the ledger, not a trim."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from support.command import weir
from support.engine import keyed_totals as totals
from support.engine.planes import play_until
from support.workers import Results
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.topic import Topic
from weir.schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINKS_PARTIALS, RELATIONS, TOPICS
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import Job
from weir.streams.engine.dataplane import dataplane
from weir.streams.engine.dataplane.purge import Purge
from weir.streams.engine.progress.layout import Layout
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import links

CALL = b'{"source":"a","destination":"b"}'
#: 2025-06-15T15:07:00Z.
BASE = 1_750_000_020_000


def send(
    config: Config,
    topic: Topic,
    values: Sequence[bytes],
    partitions: Iterable[int] = (0,),
    aborted: int = 0,
    at: int = 0,
) -> None:
    """Writes the values to each partition in one transaction, and `aborted` more in one that is aborted: the records
    are followed by control records.
    """
    producer = kafka.producer(config, **{"transactional.id": config.topic(f"test-{topic.name}")})
    producer.init_transactions(20)
    for number, end in ((len(values), producer.commit_transaction), (aborted, producer.abort_transaction)):
        producer.begin_transaction()
        for partition in partitions:
            for value in values[:number]:
                producer.produce(config.topic(topic.name), value, b"k", partition, timestamp=BASE + at)
        producer.flush()
        end(20)


def commit(config: Config, topic: Topic, offset: int, partition: int = 0) -> None:
    """Commits an offset for the links job, without its metadata."""
    consumer = kafka.consumer(config, "links")
    consumer.commit(offsets=[TopicPartition(config.topic(topic.name), partition, offset)], asynchronous=False)
    consumer.close()


def left(config: Config, job: Job) -> dict[tuple[str, int], int]:
    """How many offsets each partition that the job reads has beyond the committed one, control records included."""
    group = Group(config, job.name)
    found = {}
    for task in job.tasks:
        partitions = group.partitions(task.topic.name)
        known = group.committed(task.topic.name, partitions)
        for p in range(partitions):
            first, end = group.ends(task.topic.name, p)
            found[task.topic.name, p] = end - (known[p].offset if p in known else first)
    return found


def ends(config: Config, job: Job) -> dict[tuple[str, int], int]:
    group = Group(config, job.name)
    topics = {topic.name for topic in [*(task.topic for task in job.tasks), *job.writes]}
    return {(topic, p): group.ends(topic, p)[1] for topic in topics for p in range(group.partitions(topic))}


@pytest.fixture
def links_topics(config: Config) -> Config:
    """weir's topics, with two relations and three calls on each partition, all in transactions."""
    kafka.ensure_topics(config, TOPICS)
    send(config, RELATIONS, [b'{"parent":"p","child":"a"}', b'{"parent":"q","child":"b"}'])
    send(config, COMMUNICATIONS, [CALL] * 3, range(config.kafka.partitions), aborted=2)
    return config


def test_committed_offsets_move_past_markers_and_make_none(links_topics: Config) -> None:
    job = links.job(links_topics)
    ledger = LedgerReader(links_topics, job)
    assert play_until(links_topics, job, lambda: ledger.read().merged == 3 * links_topics.kafka.partitions) == []
    seen: list[tuple[float, dict[tuple[str, int], int]]] = []

    def is_quiet() -> bool:
        """Whether no topic has grown for 3 s. A commit that left a marker would have to be passed by another one."""
        now = ends(links_topics, job)
        if not seen or seen[-1][1] != now:
            seen.append((time.monotonic(), now))
        return time.monotonic() - seen[-1][0] > 3

    assert play_until(links_topics, job, lambda: set(left(links_topics, job).values()) == {0} and is_quiet()) == []
    assert set(ledger.read().behind.values()) == {0}


@pytest.mark.parametrize("kind", ["direct", "routed"])
def test_so_do_those_of_a_keyed_job(config: Config, kind: str) -> None:
    job = totals.job(kind)
    kafka.ensure_topics(config, [*TOPICS, job.source, *job.writes])
    payments = [totals.Payment(f"c{n}", n, 1) for n in range(3)]
    send(config, job.source, list(map(msgspec.json.encode, payments)), range(config.kafka.partitions), aborted=2)
    ledger = LedgerReader(config, job)
    assert play_until(config, job, lambda: ledger.read().merged == 3 * config.kafka.partitions) == []
    own = {topic for topic, _ in left(config, job) if topic != "payments-routed"}  # where watermarks come all the time
    assert play_until(config, job, lambda: not any(n for (t, _), n in left(config, job).items() if t in own)) == []
    assert set(ledger.read().behind.values()) == {0}


def test_a_trim_goes_up_to_what_is_committed_though_a_marker_follows(
    environ: dict[str, str], links_topics: Config
) -> None:
    for partition in range(links_topics.kafka.partitions):
        commit(links_topics, COMMUNICATIONS, 3, partition)
    commit(links_topics, COMMUNICATIONS, 2, 1)
    refused = weir(environ, "trim", "communications", "--yes")
    needed = [line for line in refused.stderr.splitlines() if b"is needed" in line]
    assert needed == [b"partition 1 is needed from offset 2 on: job links has not committed it"]
    commit(links_topics, COMMUNICATIONS, 3, 1)
    done = weir(environ, "trim", "communications", "--yes")
    assert done.returncode == 0, done
    assert done.stdout == f"deleted {3 * links_topics.kafka.partitions} offsets of communications\n".encode()
    group = Group(links_topics, "links")
    assert {group.ends("communications", p)[0] for p in range(links_topics.kafka.partitions)} == {3}


def test_the_ledger_of_a_job_that_was_trimmed_says_nothing_is_left(
    environ: dict[str, str], links_topics: Config
) -> None:
    job = links.job(links_topics)
    ledger = LedgerReader(links_topics, job)
    assert play_until(links_topics, job, lambda: not any(ledger.read().behind.values())) == []
    told = json.loads(weir(environ, "ledger", "--json").stdout)
    assert set(told["behind"].values()) == {0}
    assert weir(environ, "trim", "communications", "--yes").returncode == 0
    send(links_topics, COMMUNICATIONS, [CALL] * 2)
    assert json.loads(weir(environ, "ledger", "--json").stdout)["behind"]["communications"] == 3
    assert play_until(links_topics, job, lambda: ledger.read().merged == 3 * links_topics.kafka.partitions + 2) == []


def delete(config: Config, topic: Topic) -> None:
    """Deletes all that the topic holds, as a retention that has passed does."""
    places = [TopicPartition(config.topic(topic.name), p, OFFSET_END) for p in range(config.kafka.partitions)]
    client = kafka.admin(config)
    for future in client.delete_records(places).values():
        future.result()


def test_a_job_starts_whose_topic_between_its_stages_was_emptied_behind_it(links_topics: Config) -> None:
    job = links.job(links_topics)
    ledger = LedgerReader(links_topics, job)
    assert play_until(links_topics, job, lambda: not any(ledger.read().behind.values())) == []
    send(links_topics, LINKS_PARTIALS, [], range(links_topics.kafka.partitions))
    delete(links_topics, LINKS_PARTIALS)
    assert any(n for (topic, _), n in left(links_topics, job).items() if topic == "links-partials")
    send(links_topics, COMMUNICATIONS, [CALL])
    assert play_until(links_topics, job, lambda: ledger.read().merged == 3 * links_topics.kafka.partitions + 1) == []


def test_a_job_that_has_lost_what_its_stages_sent_each_other_does_not_start(links_topics: Config) -> None:
    job = links.job(links_topics)
    group = Group(links_topics, "links")

    def sent() -> bool:
        return all(p in group.committed("communications", links_topics.kafka.partitions) for p in range(4))

    assert play_until(links_topics, job, sent, of=["communications"]) == []
    commit(links_topics, LINKS_PARTIALS, 0)
    delete(links_topics, LINKS_PARTIALS)
    [failure] = play_until(links_topics, job, lambda: False)
    assert isinstance(failure, EngineError)


def test_what_is_committed_of_a_topic_between_stages_is_deleted_and_no_more(
    links_topics: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataplane, "PURGE_S", 0.05)
    job, group = links.job(links_topics), Group(links_topics, "links")

    def deleted() -> bool:
        committed = group.committed("links-partials", links_topics.kafka.partitions)
        firsts = {p: group.ends("links-partials", p)[0] for p in range(links_topics.kafka.partitions)}
        assert all(first <= (committed[p].offset if p in committed else 0) for p, first in firsts.items())
        return len(committed) == len(firsts) and all(firsts[p] == committed[p].offset > 0 for p in firsts)

    assert play_until(links_topics, job, deleted) == []
    send(links_topics, COMMUNICATIONS, [CALL])
    ledger = LedgerReader(links_topics, job)
    assert play_until(links_topics, job, lambda: ledger.read().merged == 3 * links_topics.kafka.partitions + 1) == []


def laid_out(config: Config, job: Job) -> Layout:
    return Layout(job, Group(config, job.name).describe(Layout.names(job)))


def test_nothing_is_deleted_of_a_topic_that_was_made_anew(config: Config) -> None:
    job = totals.job("routed")
    name = config.topic(totals.ROUTED.name)
    kafka.ensure_topics(config, [*TOPICS, job.source, *job.writes])
    purge, layout = Purge(config, job), laid_out(config, job)
    client = kafka.admin(config)
    client.delete_topics([name])[name].result()
    while kafka.describe(client, [name], 10):
        pass
    kafka.ensure_topics(config, [totals.ROUTED])
    send(config, totals.ROUTED, [b"1", b"2"])
    purge.delete({(totals.ROUTED.name, 0): 2}, layout)
    assert Group(config, job.name).ends(totals.ROUTED.name, 0)[0] == 0
    purge.delete({(totals.ROUTED.name, 0): 2}, laid_out(config, job))
    assert Group(config, job.name).ends(totals.ROUTED.name, 0)[0] == 2


def test_a_broker_that_refuses_to_delete_is_told_of_once(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    compacted = replace(totals.ROUTED, config={"cleanup.policy": "compact"})
    job = replace(totals.job("routed"), repartition=compacted)
    kafka.ensure_topics(config, [*TOPICS, job.source, *job.writes])
    send(config, compacted, [b"1", b"2", b"3"])
    purge, layout = Purge(config, job), laid_out(config, job)
    for offset in (1, 2, 3):
        purge.delete({(compacted.name, 0): offset}, layout)
    assert capsys.readouterr().out.count("purge.refused") == 1
    assert Group(config, job.name).ends(compacted.name, 0)[0] == 0


def test_a_job_stopped_for_longer_than_its_results_are_kept_goes_on_with_new_windows(links_topics: Config) -> None:
    job = links.job(links_topics)
    ledger = LedgerReader(links_topics, job)
    done = 3 * links_topics.kafka.partitions
    assert play_until(links_topics, job, lambda: not any(ledger.read().behind.values())) == []
    delete(links_topics, LINK_COUNTS)
    send(links_topics, COMMUNICATIONS, [CALL], range(links_topics.kafka.partitions), at=10 * 60_000)
    assert play_until(links_topics, job, lambda: ledger.read().merged == done + links_topics.kafka.partitions) == []
    assert {c.window.start for c in Results(links_topics).all()} == {"2025-06-15T15:17:00Z"}
    closed = {c.partition for c in Results(links_topics).closed() if c.window.start == "2025-06-15T15:07:00Z"}
    assert owner(("p", "q"), links_topics.kafka.partitions) not in closed
    send(links_topics, COMMUNICATIONS, [CALL])
    [failure] = play_until(links_topics, job, lambda: False)
    assert "reached the retention of topic link-counts" in str(failure)
