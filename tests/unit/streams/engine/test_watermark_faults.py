"""Event time that goes wrong: out of order, idle, silent, late, a clock stepped by an hour, a replay of old data.

After each of them the ledger holds, the counts are a plain Counter's, and each window is closed once per partition.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.infra.config import Config
from weir.schemas.dead_letters import from_headers
from weir.schemas.times import to_rfc3339
from weir.streams.jobs import links
from weir.streams.testing import Harness

BASE = 1_750_000_020_000  # the start of a minute
MINUTE, HOUR = 60_000, 3_600_000
YEAR = 365 * 24 * HOUR
PARTITIONS = 3
PARENT = {"c0": "p0", "c1": "p1", "c2": "p2", "c3": "p0"}

Cell = tuple[str, str, str]
#: Where an event goes, when after BASE it happened, and who called whom.
Event = tuple[int, int, str, str]

children = st.sampled_from(list(PARENT))
events = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 9 * MINUTE), children, children))


def harness(partitions: int = PARTITIONS) -> Harness:
    made = Harness(links.job(Config()), partitions, now_ms=BASE + 10 * MINUTE)
    made.send("relations", [{"parent": parent, "child": c} for c, parent in PARENT.items()], BASE - YEAR)
    return made


def send(h: Harness, at: int, partition: int = 0, source: str = "c0", destination: str = "c1") -> None:
    h.send("communications", {"source": source, "destination": destination}, BASE + at, partition=partition)


def truth(sent: list[Event]) -> Counter[Cell]:
    return Counter((start(at), PARENT[source], PARENT[destination]) for _, at, source, destination in sent)


def start(at: int) -> str:
    return to_rfc3339((BASE + at) // MINUTE * MINUTE)


def counts(h: Harness) -> Counter[Cell]:
    found = h.latest("link-counts").values()
    return Counter({(c["window"]["start"], c["source"], c["destination"]): c["count"] for c in found})


def closed(h: Harness) -> Counter[tuple[str, int]]:
    return Counter((c["window"]["start"], c["partition"]) for c in h.values("link-windows"))


def check(h: Harness, late: int = 0, dead: int = 0) -> None:
    """The ledger's three sides, and that closed is closed once, with every cell of it final."""
    accepted = len(h.records("communications"))
    assert accepted == h.routed.accepted == h.routed.counted + late + dead
    assert (len(h.records("late-events")), len(h.records("dead-letters"))) == (late, dead)
    assert h.routed.counted == h.counted == counts(h).total()
    announced = closed(h)
    assert set(announced.values()) <= {1}
    ended = {window for window, _ in announced}
    assert all(c["final"] for c in h.latest("link-counts").values() if c["window"]["start"] in ended)


def check_whole(h: Harness) -> None:
    """Checks that every partition has closed each window that any partition has closed."""
    announced = closed(h)
    assert announced.keys() == {(window, p) for window, _ in announced for p in range(h.partitions)}


def settle(h: Harness) -> None:
    """Until the idle partitions have heard of each other."""
    for _ in range(3):
        h.run()


@settings(deadline=None)
@given(events, st.integers(1, 7))
def test_events_in_any_order_over_any_partitions_count_as_in_order(sent: list[Event], slice_size: int) -> None:
    h = harness()
    for partition, *event in sent:
        send(h, event[0], partition, *event[1:])
        h.step(slice_size)
    h.advance(20 * MINUTE)
    settle(h)
    assert counts(h) == truth(sent)
    check(h)
    check_whole(h)
    assert {window for window, _, _ in truth(sent)} <= {window for window, _ in closed(h)}


def test_a_partition_that_falls_idle_holds_no_window_open_and_loses_nothing_when_it_wakes() -> None:
    h = harness()
    for partition in range(PARTITIONS):
        send(h, 0, partition)
    h.run()
    for minute in range(1, 6):  # partitions 0 and 1 go on
        h.advance(MINUTE)
        send(h, minute * MINUTE, 0)
        send(h, minute * MINUTE, 1)
        settle(h)
    assert [window for window, partition in sorted(closed(h)) if partition == 0] == [
        start(m * MINUTE) for m in range(4)
    ]
    send(h, MINUTE, 2)
    settle(h)
    assert counts(h)[start(MINUTE), "p0", "p1"] == 3
    check(h)
    check_whole(h)


def test_a_topic_that_falls_silent_closes_its_windows_on_every_partition_and_wakes_where_it_was() -> None:
    h = harness()
    for partition in range(PARTITIONS):
        send(h, partition, partition, "c2", "c2")
    settle(h)
    h.advance(3 * MINUTE)
    settle(h)
    assert closed(h) == {(start(m * MINUTE), p): 1 for m in (0, 1) for p in range(PARTITIONS)}
    send(h, 30_000)
    h.advance(MINUTE)
    settle(h)
    assert counts(h) == {(start(0), "p2", "p2"): 3, (start(0), "p0", "p1"): 1}
    check(h)
    check_whole(h)


def test_an_event_within_the_grace_and_one_after_it_are_both_in_what_every_partition_closed_once() -> None:
    h = harness()
    for partition in range(PARTITIONS):
        send(h, 0, partition)
        send(h, MINUTE + 4_999, partition)
    settle(h)
    assert not closed(h)
    send(h, 59_999)  # within the grace
    for partition in range(PARTITIONS):
        send(h, MINUTE + 5_000, partition)
    settle(h)
    first = [(c["count"], c["final"]) for c in h.values("link-counts") if c["window"]["start"] == start(0)]
    send(h, 59_999, 1)  # after it
    settle(h)
    assert first[-1] == (4, True)
    assert counts(h)[start(0), "p0", "p1"] == 5
    assert closed(h) == {(start(0), p): 1 for p in range(PARTITIONS)}
    check(h)
    check_whole(h)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_stepped_forward_by_an_hour_and_back_loses_no_event(restarted: bool) -> None:
    h = harness()
    for partition in range(PARTITIONS):
        send(h, 0, partition)
    settle(h)
    h.advance(HOUR)  # to a worker that was away it looks as if an hour had passed; to one that ran, too
    if restarted:
        h.crash()
    settle(h)
    assert (start(50 * MINUTE), 0) in closed(h)  # closed early: a statement, not a door
    h.advance(-HOUR)
    if restarted:
        h.crash()
    for minute in range(1, 10):
        for partition in range(PARTITIONS):
            send(h, minute * MINUTE, partition)
        settle(h)
    assert counts(h) == {(start(m * MINUTE), "p0", "p1"): 3 for m in range(10)}
    check(h)
    check_whole(h)


def test_a_clock_stepped_back_by_an_hour_refuses_what_seems_ahead_and_moves_no_watermark() -> None:
    h = harness()
    send(h, 0)
    h.run()
    h.advance(-HOUR)
    h.crash()
    send(h, MINUTE)
    settle(h)
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["timestamp"]
    assert not closed(h)
    h.advance(HOUR)
    send(h, MINUTE)
    settle(h)
    assert counts(h) == {(start(0), "p0", "p1"): 1, (start(MINUTE), "p0", "p1"): 1}
    check(h, dead=1)
    check_whole(h)


step = st.one_of(
    st.tuples(st.just("event"), st.integers(0, PARTITIONS - 1), st.integers(-30 * MINUTE, 9 * MINUTE)),
    st.tuples(st.just("clock"), st.sampled_from([-HOUR, HOUR, 1_000, 90_000])),
    st.tuples(st.just("run"), st.integers(1, 5)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(step, max_size=40))
def test_whatever_the_clock_does_the_ledger_holds_and_closed_is_closed_once(steps: list[tuple[str, int]]) -> None:
    h = harness()
    for name, *rest in steps:
        if name == "event":
            send(h, rest[1], rest[0])
        elif name == "clock":
            h.advance(rest[0])
        else:
            h.run(rest[0])
    settle(h)
    check(h, late=h.routed.late, dead=h.routed.dead)
    check_whole(h)


def test_a_replay_of_a_years_old_data_is_counted_and_closed_once_also_across_the_jump_to_now() -> None:
    h = harness()
    old = [(m % PARTITIONS, -YEAR + m * MINUTE, "c0", "c1") for m in range(30)]
    new = [(p, m * MINUTE, "c1", "c2") for m in range(3) for p in range(PARTITIONS)]
    for partition, at, source, destination in old + new:
        send(h, at, partition, source, destination)
    h.run(slice_size=5)
    settle(h)
    assert counts(h) == truth(old + new)
    assert {start(-YEAR + m * MINUTE) for m in range(30)} <= {window for window, _ in closed(h)}
    check(h)
    check_whole(h)


def test_old_data_between_new_is_late_and_kept_apart_on_its_own_partition_only() -> None:
    h = harness()
    for partition in (0, 1):
        send(h, 0, partition)
    settle(h)
    for partition in range(PARTITIONS):  # partition 2 has had no event: to it, nothing is late
        send(h, -YEAR, partition)
    settle(h)
    assert (h.routed.counted, h.routed.late) == (3, 2)
    assert counts(h) == {(start(0), "p0", "p1"): 2, (start(-YEAR), "p0", "p1"): 1}
    check(h, late=2)
    check_whole(h)


def test_an_old_window_is_not_announced_again_by_a_partition_that_restarts_without_cells_for_it() -> None:
    h = harness()
    for partition in range(PARTITIONS):
        send(h, 0, partition)
        send(h, 2 * MINUTE, partition)
    settle(h)
    send(h, -3 * MINUTE, 0)
    settle(h)
    h.crash()
    send(h, -3 * MINUTE, 0)
    settle(h)
    check(h)
    check_whole(h)
