"""`relations` is rewritten without old repeats, on a real Kafka: nobody loses a fact, whenever it ends in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from support.command import weir
from support.wait import until
from support.workers import Results, workers
from weir.infra.config import Config
from weir.infra.kafka.client import admin, consumer, ensure_topics, producer
from weir.schemas.topics import RELATIONS
from weir.streams.engine.core.records import COMPACTED, Produce
from weir.streams.engine.dataplane.compaction import LEAST, Compactor, begins_compacted
from weir.streams.engine.dataplane.view_reader import ViewReader
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.engine.progress.waits import Waits
from weir.streams.jobs.parents import Parents

SECOND = 1_000
#: Long ago: every repeat may be left out.
START = 1_700_000_040_000
#: When each declaration is of, and of which parent: a child that moves twice, and is declared every second.
MOVES = {0: "old", LEAST // 2: "new", LEAST + 500: "old"}
DECLARED = LEAST + 1000


def parent_at(second: int) -> str:
    return MOVES[max(moved for moved in MOVES if moved <= second)]


class Topic:
    """`relations` of a test's own, and the records in it."""

    def __init__(self, config: Config) -> None:
        ensure_topics(config)
        self.config, self.group = config, Group(config, "links")
        self._producer = producer(config)

    def declare(self, first: int, last: int, child: str = "c") -> None:
        """The child is declared every second, as by any producer: with a key, or without."""
        for second in range(first, last):
            value = f'{{"parent":"{parent_at(second)}","child":"{child}"}}'
            key = child if second % 2 else None
            self._producer.produce(self.config.topic("relations"), value, key=key, timestamp=START + second * SECOND)
        self._producer.flush()

    def committed(self, offset: int) -> None:
        """The links job's group has come so far."""
        member = consumer(self.config, "links")
        member.commit(offsets=[TopicPartition(self.config.topic("relations"), 0, offset)], asynchronous=False)
        member.close()

    @property
    def ends(self) -> tuple[int, int]:
        return self.group.ends("relations", 0)

    def read(self) -> Parents:
        """The view of a worker that starts now."""
        found = Parents()
        found.apply(list(read_to(self.config, "relations", 0, *self.ends)))
        return found

    def compactor(self, view: Parents | None = None, least: int = 10) -> Compactor:
        return Compactor(self.config, "links", view or self.read(), least)


def history(parents: Parents) -> list[tuple[bytes | None, bytes | None, int]]:
    """Returns all facts of the view, which decide its answers."""
    return sorted((r.key, r.value, r.timestamp) for r in parents.history(1 << 62))


@pytest.fixture
def topic(config: Config) -> Topic:
    return Topic(config)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_compacts_the_topic_and_counts_by_the_same_history_after_a_kill_and_a_reset(
    config: Config, environ: dict[str, str], topic: Topic, tmp_path: Path
) -> None:
    topic.declare(0, DECLARED)
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        worker = fleet.start()
        until(lambda: topic.ends[0] >= DECLARED, lambda: fleet.revive(1))
        first, end = topic.ends
        assert end - first < 10
        fleet.kill(worker)
        expected: Counter[str] = Counter()
        out = producer(config)
        for second in range(0, DECLARED, 50):  # in order of time: none of them is late
            out.produce(
                config.topic("communications"), b'{"source":"c","destination":"c"}',
                partition=0, timestamp=START + second * SECOND,
            )  # fmt: skip
            expected[parent_at(second)] += 1
        out.flush()

        def counted() -> bool:
            fleet.revive(1)
            return results.merged == expected.total()

        def by_parent() -> Counter[str]:
            found: Counter[str] = Counter()
            for (_, source, destination), count in results.counts().items():
                assert source == destination
                found[source] += count
            return found

        until(counted)
        assert by_parent() == expected
        for process in list(fleet.running):
            fleet.kill(process)
        until(lambda: weir(environ, "reset", "links", "--yes", "--yes").returncode == 0)
        until(counted)
        assert by_parent() == expected
        assert results.routed.dead == results.routed.late == 0


def test_what_is_compacted_is_what_was_there_and_who_read_half_of_it_goes_on(topic: Topic) -> None:
    reader, late = Parents(), Parents()
    views = [ViewReader(topic.config, topic.group, view, Waits()) for view in (reader, late)]
    topic.declare(0, 100)
    topic.declare(3, 30, "d")
    for view in views:
        view.catch_up()
    topic.declare(100, 6000)
    before = topic.read()
    views[0].catch_up()
    topic.committed(topic.ends[1])
    assert topic.compactor().look()
    assert topic.ends[0] == 6027
    topic.declare(6000, 6100)
    for view in views:
        view.catch_up()
    for second in range(6000, 6100):
        before.add("c", parent_at(second), START + second * SECOND)
    assert history(reader) == history(late) == history(topic.read()) == history(before)
    assert reader.facts == late.facts == topic.read().facts


def test_records_that_a_group_has_not_read_stay_until_it_has(topic: Topic, capsys: pytest.CaptureFixture[str]) -> None:
    topic.declare(0, 100)
    topic.committed(40)
    compactor = topic.compactor()
    assert compactor.look()
    assert not compactor.look()
    assert topic.ends[0] == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "compaction.waiting" in line]
    assert len(told) == 2
    assert topic.config.topic("links") in told[1]
    topic.committed(topic.ends[1])
    assert not compactor.look()
    assert topic.ends[0] == 100
    assert topic.read().facts == 2
    assert begins_compacted(topic.config, "relations", 0, 100)
    assert not begins_compacted(topic.config, "relations", 0, 101)


def test_nothing_is_deleted_of_a_topic_that_was_made_anew_meanwhile(topic: Topic) -> None:
    topic.declare(0, 100)
    compactor = topic.compactor()
    assert compactor.look()
    client = admin(topic.config)
    for future in client.delete_topics([topic.config.topic("relations")]).values():
        future.result()
    while topic.group.describe(["relations"]):
        pass
    ensure_topics(topic.config)
    topic.declare(0, 200)
    topic.committed(200)
    assert not compactor.look()
    assert topic.ends[0] == 0


def test_one_that_ends_before_it_deletes_leaves_what_the_next_one_compacts(topic: Topic) -> None:
    topic.declare(0, 100)
    expected = history(topic.read())
    assert topic.compactor().look()  # the group has committed nothing: nothing is deleted
    assert topic.ends[0] == 0
    assert history(topic.read()) == expected
    topic.committed(topic.ends[1])
    assert topic.compactor(least=10).look()
    assert topic.ends[0] >= 100
    assert history(topic.read()) == expected


class Overtaken(Parents):
    """A view during whose writing somebody else declares a relation."""

    topic_of: Topic

    def fresh(self) -> Overtaken:
        found = Overtaken()
        found.topic_of = self.topic_of
        return found

    def history(self, before: int) -> Iterator[Produce]:
        for record in super().history(before):
            self.topic_of.declare(LEAST, LEAST + 1)
            time.sleep(0.05)
            yield record


def test_where_others_write_meanwhile_nothing_is_rewritten_and_nothing_deleted(topic: Topic) -> None:
    topic.declare(0, 100)
    topic.committed(topic.ends[1])
    view = Overtaken()
    view.topic_of = topic
    view.apply(list(read_to(topic.config, "relations", 0, *topic.ends)))
    assert not topic.compactor(view).look()
    assert topic.ends[0] == 0
    records = list(read_to(topic.config, "relations", 0, *topic.ends))
    assert all(record.headers() is None for record in records)


class OvertakenOnce(Overtaken):
    """One that is overtaken in the first attempt alone."""

    def fresh(self) -> OvertakenOnce:
        found = OvertakenOnce()
        found.topic_of = self.topic_of
        return found

    def history(self, before: int) -> Iterator[Produce]:
        self.asked = getattr(self, "asked", 0) + 1
        return super().history(before) if self.asked == 2 else Parents.history(self, before)


def test_an_attempt_that_was_overtaken_is_followed_by_one_with_what_came_meanwhile(topic: Topic) -> None:
    topic.declare(0, 100)
    topic.committed(topic.ends[1])
    view = OvertakenOnce()
    view.topic_of = topic
    view.apply(list(read_to(topic.config, "relations", 0, *topic.ends)))
    assert topic.compactor(view).look()
    found = Parents()
    found.apply(list(read_to(topic.config, "relations", 0, topic.compactor()._deletable, topic.ends[1])))
    assert found.at("c", START + LEAST * SECOND) == parent_at(LEAST)
    assert found.at("c", START) == "old"


def test_a_compaction_that_takes_long_hides_no_relation_from_the_view(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.streams.engine.dataplane.view_reader.ENDING_S", 0.0)
    topic.declare(0, 2)
    end = topic.ends[1]
    compacting = producer(topic.config, **{"transactional.id": topic.config.topic("compacting")})
    compacting.init_transactions(10)
    compacting.begin_transaction()
    compacting.produce(topic.config.topic("relations"), b"{}", headers=[(COMPACTED, b"%d" % end)])
    compacting.flush()
    topic.declare(2, 3, "behind")
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        if asked == 20:
            compacting.abort_transaction(10)
        return False

    view = Parents()
    ViewReader(topic.config, topic.group, view, Waits(), stopped).catch_up()
    assert view.at("behind", START + 2 * SECOND) == "old"
    assert asked >= 20


def test_a_topic_without_old_repeats_is_left_as_it_is(topic: Topic) -> None:
    now = int(time.time() * 1000)
    out = producer(topic.config)
    for at in range(200):
        out.produce(topic.config.topic("relations"), b'{"parent":"p","child":"c"}', key="c", timestamp=now - at)
        out.produce(topic.config.topic("relations"), f'{{"parent":"p","child":"c{at}"}}', timestamp=START)
    out.flush()
    topic.committed(topic.ends[1])
    assert not topic.compactor().look()
    assert topic.ends == (0, 400)
    assert RELATIONS.config["cleanup.policy"] == "delete"  # or Kafka would drop all but a child's latest
