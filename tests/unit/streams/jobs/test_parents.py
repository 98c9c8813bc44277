"""Which parent a child belonged to at a time."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.schemas.errors import PoisonError
from weir.streams.engine.core.records import HISTORY, Produce
from weir.streams.jobs.parents import Parents
from weir.streams.testing import FakeRecord


def of(*relations: tuple[str, str, int]) -> Parents:
    parents = Parents()
    for relation in relations:
        parents.add(*relation)
    return parents


def test_a_move_counts_from_its_own_timestamp_on() -> None:
    parents = of(("c", "old", 10), ("c", "new", 20))
    assert [parents.at("c", t) for t in (10, 19, 20, 21)] == ["old", "old", "new", "new"]


def test_the_first_known_parent_covers_earlier_events() -> None:
    assert of(("c", "p", 1_000)).at("c", 0) == "p"


def test_relations_may_come_out_of_order() -> None:
    parents = of(("c", "third", 30), ("c", "first", 10), ("c", "second", 20))
    assert [parents.at("c", t) for t in (5, 15, 25, 35)] == ["first", "first", "second", "third"]


def test_of_two_parents_for_one_moment_the_later_said_holds() -> None:
    assert of(("c", "a", 10), ("c", "b", 10)).at("c", 10) == "b"


def test_saying_it_again_changes_nothing_and_keeps_the_child_on_the_fast_path() -> None:
    parents = of(("c", "p", 10), ("c", "p", 20), ("c", "p", 5))
    assert parents.settled == {"c": "p"}


def test_a_child_that_nobody_declared_is_poison() -> None:
    with pytest.raises(PoisonError, match="no relation names the child 'x'"):
        of().at("x", 0)


@given(
    st.lists(st.tuples(st.just("c"), st.sampled_from("abc"), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(-5, 25),
)
def test_the_parent_is_that_of_the_last_relation_at_or_before_the_time(
    relations: list[tuple[str, str, int]], timestamp: int
) -> None:
    by_time = {since: parent for _, parent, since in relations}
    before = [since for since in by_time if since <= timestamp]
    expected = by_time[max(before) if before else min(by_time)]
    assert of(*relations).at("c", timestamp) == expected


def test_a_child_that_is_declared_a_hundred_thousand_times_is_taken_in_one_pass() -> None:
    """Each declaration is appended: with a copy of the history for each, this would take minutes."""
    parents = of(*(("same", "p", minute) for minute in range(100_000)))
    assert parents.settled == {"same": "p"}
    for minute in range(100_000):
        parents.add("flapping", "ab"[minute % 2], minute)
    assert [parents.at("flapping", t) for t in (-1, 0, 1, 99_999, 100_000)] == ["a", "a", "b", "b", "b"]
    assert (parents.facts, parents.repeated) == (200_000, 99_998)


def test_a_parent_that_comes_later_than_a_repeat_and_is_dated_before_it_holds_until_that() -> None:
    parents = of(("c", "a", 10), ("c", "a", 20), ("c", "a", 30), ("c", "b", 25))
    assert [parents.at("c", t) for t in (10, 24, 25, 29, 30)] == ["a", "a", "b", "b", "a"]


class Log:
    """The topic `relations`, and the view of a worker that reads along."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []
        self.live = Parents()

    def append(self, *records: Produce) -> None:
        new = [FakeRecord(r.topic, 0, 0, r.key, r.value, r.timestamp, r.headers) for r in records]
        self.records += new
        self.live.apply(new)

    def declare(self, child: str, parent: str, since: int) -> None:
        value = b'{"parent":"%b","child":"%b"}' % (parent.encode(), child.encode())
        self.append(Produce("relations", value, timestamp=since))

    def compact(self, before: int, delete: bool) -> None:
        """As `Compactor` does; without `delete`, it dies before the last step."""
        read, end = self.read(), len(self.records)
        self.append(*read.history(before))
        if delete:
            del self.records[:end]

    def read(self) -> Parents:
        """The view of a worker that starts now."""
        found = Parents()
        found.apply(self.records)
        return found


def answers(parents: Parents) -> dict[tuple[str, int], str]:
    return {(child, t): parents.at(child, t) for child in "cd" for t in range(-1, 23) if child in known(parents)}


def known(parents: Parents) -> set[str]:
    return {(r.key or b"").decode() for r in parents.history(0)}


declarations = st.tuples(st.sampled_from("cd"), st.sampled_from("ab"), st.integers(0, 20))
compactions = st.tuples(st.integers(0, 25), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(declarations | compactions, max_size=30))
def test_every_worker_has_the_same_history_whenever_it_starts_and_whenever_the_topic_is_compacted(
    steps: list[tuple[str, str, int] | tuple[int, bool]],
) -> None:
    log = Log()
    model: dict[str, dict[int, str]] = {}
    for step in steps:
        if len(step) == 3:
            child, parent, since = step
            model.setdefault(child, {})[since] = parent
            log.declare(*step)
        else:
            before, delete = step
            for child, facts in model.items():
                model[child] = without_repeats(facts, before)
            log.compact(before, delete)
        fresh = log.read()
        expected = {
            (child, t): facts[max((s for s in facts if s <= t), default=min(facts))]
            for child, facts in model.items()
            for t in range(-1, 23)
        }
        assert answers(log.live) == answers(fresh) == expected
        for parents in (log.live, fresh):
            every = [without_repeats(facts, 1 << 62) for facts in model.values()]
            assert parents.facts == sum(map(len, model.values()))
            assert parents.facts - parents.repeated == sum(map(len, every))


def without_repeats(facts: dict[int, str], before: int) -> dict[int, str]:
    """Those that stand between two of the same parent, and are older, are left out."""
    times = sorted(facts)
    inner = {
        t for s, t, u in zip(times, times[1:], times[2:], strict=False) if facts[s] == facts[t] == facts[u]
    }  # fmt: skip
    return {t: facts[t] for t in times if t not in inner or t >= before}


@settings(max_examples=60, deadline=None)
@given(st.lists(declarations, min_size=1, max_size=30), st.integers(0, 25))
def test_a_compaction_changes_no_answer(relations: list[tuple[str, str, int]], before: int) -> None:
    log = Log()
    for relation in relations:
        log.declare(*relation)
    was = answers(log.live)
    log.compact(before, delete=True)
    assert answers(log.live) == answers(log.read()) == was


def test_a_record_that_only_claims_to_be_of_a_compaction_is_a_relation_as_any_other() -> None:
    log = Log()
    log.declare("c", "a", 1)
    for place in (b"1/3", b"x/y", b"2/2", b"", b"0/2"):
        log.append(Produce("relations", b'{"parent":"b","child":"c"}', headers=[(HISTORY, place)], timestamp=5))
    log.declare("c", "a", 9)
    assert [log.live.at("c", t) for t in (1, 5, 9)] == ["a", "b", "a"]


def test_a_rewritten_topic_takes_no_more_memory_than_the_relations_themselves() -> None:
    log = Log()
    for child in range(2_000):
        log.declare(f"c{child}", f"p{child}", child)
    rewritten = [FakeRecord(r.topic, 0, 0, r.key, r.value, r.timestamp, r.headers) for r in log.live.history(0)]
    assert held(rewritten) < 1.05 * held(log.records)


def held(records: list[FakeRecord]) -> int:
    """The bytes that a view of these records takes."""
    tracemalloc.start()
    try:
        parents = Parents()
        parents.apply(records)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_history_that_is_rewritten_as_one_relation_is_that_relation() -> None:
    log = Log()
    log.declare("c", "a", 10)
    [alone] = log.live.history(0)
    log.declare("c", "b", 20)
    log.append(alone)
    assert [log.live.at("c", t) for t in (0, 10, 20)] == ["a", "a", "a"]
    assert (log.live.facts, log.live.repeated, log.live.settled) == (1, 0, {"c": "a"})
