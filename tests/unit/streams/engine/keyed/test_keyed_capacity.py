"""The capacity of a keyed job: what expires first makes room, the same after every restart, and it is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.streams.engine.keyed import test_keyed_properties as keyed
from weir.streams.engine.admin.explain import explain
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.keyed.job import Keyed
from weir.streams.testing import Harness

BASE, PARTITIONS, TTL = keyed.BASE, keyed.PARTITIONS, keyed.TTL
KEYS = [f"k{n}" for n in range(15)]

event = st.builds(lambda one, key: msgspec.structs.replace(one, key=key), keyed.event, st.sampled_from(KEYS))
step = st.one_of(
    st.tuples(st.just("event"), keyed.moment, event, keyed.partition),
    st.tuples(st.just("array"), keyed.moment, st.lists(event, max_size=5), keyed.partition),
    st.tuples(st.just("process"), keyed.task, st.integers(1, 4)),
    st.tuples(st.just("flush"), keyed.task),
    st.tuples(st.just("crash"), keyed.task),
)
many = st.lists(step, max_size=60)


def job(capacity: int, routed: bool = False) -> Keyed[keyed.Event, int]:
    return replace(keyed.JOB, capacity=capacity, repartition=keyed.ROUTED if routed else None)


@settings(max_examples=300, deadline=None)
@given(many, st.integers(1, 10))
def test_states_outputs_and_what_was_dropped_are_those_of_a_loop_over_dicts(steps: list[Any], capacity: int) -> None:
    h, sent = keyed.play(job(capacity), steps)
    models = keyed.modelled(sent, math.ceil(capacity / PARTITIONS))
    assert keyed.outputs(h) == [model.out for model in models]
    assert keyed.states(h, KEYS) == {key: state for model in models for key, state in model.state.items()}
    assert h.dropped == sum(model.dropped for model in models)


@settings(max_examples=200, deadline=None)
@given(many, st.booleans(), st.integers(1, 10))
def test_a_restart_where_all_is_committed_changes_nothing(steps: list[Any], routed: bool, capacity: int) -> None:
    """Also where event time comes from several sources, and a key may be written with an earlier time than before."""
    outcomes = []
    for restarts in (False, True):
        h = Harness(job(capacity, routed), PARTITIONS, now_ms=BASE)
        topics = [task.topic.name for task in h.job.tasks]
        for name, *rest in steps:
            if name in ("event", "array"):
                at, what, where = rest
                events = what if name == "array" else [what]
                if not routed:
                    events = [e for e in events if owner((e.key,), PARTITIONS) == where]
                h.send("events", events, BASE + at, where)
            elif rest[0][0] in topics:
                if name == "process":
                    h.process(*rest[0], rest[1])
                h.flush(*rest[0])
                if name == "crash" and restarts:
                    h.crash(*rest[0])
        h.run()
        outcomes.append((keyed.outputs(h), keyed.states(h, KEYS), h.dropped))
    assert outcomes[0] == outcomes[1]


def send(h: Harness, key: str, at: int, delay: int | None = None, partition: int = 0) -> None:
    h.send("events", keyed.Event(at, key, 1, False, False, delay), BASE + at, partition)


def held(h: Harness) -> set[str]:
    return set(keyed.states(h, KEYS)) if h.partitions == PARTITIONS else {k for k in KEYS if found(h, k)}


def found(h: Harness, key: str) -> list[Any]:
    stage: Any = h.stage("events", 0)
    cells: list[Any] = stage.find((key,))
    return cells


def test_what_expires_first_goes_with_a_tombstone_and_a_timer_still_to_come_keeps_a_key() -> None:
    h = Harness(job(2), 1, now_ms=BASE)
    send(h, "k0", 0, delay=900)
    send(h, "k1", 10)
    send(h, "k2", 20)
    h.run()
    assert held(h) == {"k0", "k2"}
    assert [(r.key(), r.value() is None) for r in h.records("table")] == [(b"k0", False), (b"k1", True), (b"k2", False)]
    send(h, "k3", 30)
    send(h, "k4", 40)
    send(h, "k5", 50, delay=2000)
    send(h, "k6", 60, delay=1000)
    h.run()
    assert held(h) == {"k5", "k6"}
    send(h, "k7", 5000)
    h.run()
    assert [v[1:3] for v in h.values("out") if v[0] == "timer"] == [["k6", 1060], ["k5", 2050]]
    assert held(h) == {"k6", "k7"}  # a timer that fires is a write: of what expires together the first by name goes
    assert h.dropped == 6


def test_a_key_that_is_deleted_leaves_its_room_to_another() -> None:
    h = Harness(job(1), 1, now_ms=BASE)
    for at in range(5000):
        h.send("events", [keyed.Event(at, f"k{at}", 1, False, delete, None) for delete in (False, True)], BASE + at % 7)
    send(h, "k1", 8)
    h.run()
    assert (held(h), h.dropped) == ({"k1"}, 0)


@pytest.mark.parametrize("routed", [False, True])
def test_a_smaller_capacity_holds_from_the_restart_on(routed: bool) -> None:
    h = Harness(job(9, routed), 1, now_ms=BASE)
    for at in range(10):
        send(h, f"k{at}", at)
    h.run()
    assert h.dropped == 1
    less = Harness(job(3, routed), 1, BASE, h.topics, h.committed)
    topic = less.job.tasks[-1].topic.name
    stage: Any = less.stage(topic, 0)
    assert [key for key in KEYS if stage.find((key,))] == ["k7", "k8", "k9"]
    less.flush(topic, 0)
    left = {r.key(): r.value() for r in less.records("table")}
    assert [key for key, value in left.items() if value is not None] == [b"k7", b"k8", b"k9"]
    assert less.dropped == 7


def test_the_share_of_a_partition_is_rounded_up() -> None:
    h = Harness(job(4), 3, now_ms=BASE)
    for key in KEYS:
        send(h, key, 0, partition=owner((key,), 3))
    h.run()
    by_owner = [[key for key in sorted(KEYS) if owner((key,), 3) == n] for n in range(3)]
    assert held(h) == {key for own in by_owner for key in own[-2:]}


def test_state_that_was_committed_before_there_was_a_capacity_is_taken_up() -> None:
    h = Harness(replace(keyed.JOB, ttl=None), 1, now_ms=BASE)
    send(h, "k0", 0)
    h.run()
    offset, metadata = h.committed["events", 0]
    fields = msgspec.json.decode(metadata)
    assert fields.pop() == 0
    h.committed["events", 0] = offset, msgspec.json.encode(fields).decode()
    later = Harness(job(1), 1, BASE, h.topics, h.committed)
    send(later, "k1", 1)
    later.run()
    assert later.dropped == 1


def test_it_is_drawn_and_must_be_possible() -> None:
    counts = {"events": 1, "table": 1, "out": 1}
    assert ", 7 keys at most" in explain(job(7), counts, lambda topic: [])
    for wrong, reason in (({"capacity": 0}, "at least 1 key"), ({"capacity": 5, "ttl": None}, "needs a ttl")):
        with pytest.raises(ValueError, match=reason):
            replace(keyed.JOB, **wrong)
