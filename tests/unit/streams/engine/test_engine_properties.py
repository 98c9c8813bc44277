"""Whatever the interleaving of slices, flushes, idleness, crashes and new events: the counts are a plain Counter's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.infra.config import Config
from weir.streams.engine.core.job import Job
from weir.streams.jobs import links
from weir.streams.testing import Harness

BASE = 1_750_000_020_000
PARTITIONS = 3
CHILDREN = ["c0", "c1", "c2", "c3", "c4"]
PARENT = {"c0": "p0", "c1": "p0", "c2": "p1", "c3": "p2", "c4": "p2"}

partition = st.integers(0, PARTITIONS - 1)
child = st.sampled_from([*CHILDREN, "stranger"])
event = st.tuples(st.just("event"), partition, st.integers(0, 4 * 60_000), child, child)
task = st.tuples(st.sampled_from(["communications", "links-partials"]), partition)
step = st.one_of(
    event,
    st.tuples(st.just("process"), task, st.integers(1, 4)),
    st.tuples(st.just("flush"), task),
    st.tuples(st.just("idle"), task),
    st.tuples(st.just("crash"), task),
    st.tuples(st.just("advance"), st.integers(0, 90_000)),
)


def play(  # type: ignore[type-arg]
    steps: list[tuple], retention: str, make: Callable[[Config], Job] = links.job
) -> tuple[Harness, list[tuple[int, str, str]]]:
    config = Config().replace(WEIR_LINKS_RETENTION=int(retention), WEIR_MAX_SKEW=10_000_000)
    h = Harness(make(config), PARTITIONS, now_ms=BASE)
    h.send("relations", [{"parent": parent, "child": c} for c, parent in PARENT.items()], BASE)
    sent = []
    for name, *rest in steps:
        if name == "event":
            where, at, source, destination = rest
            h.send("communications", {"source": source, "destination": destination}, BASE + at, partition=where)
            sent.append((at, source, destination))
        elif name == "process":
            (topic, number), slice_size = rest
            h.process(topic, number, slice_size)
        elif name == "advance":
            h.advance(rest[0])
        else:
            getattr(h, name)(*rest[0])
    h.run()
    return h, sent


def cells(h: Harness) -> Counter[tuple[str, str, str]]:
    return Counter(
        {(c["window"]["start"], c["source"], c["destination"]): c["count"] for c in h.latest("link-counts").values()}
    )


def truth(sent: list[tuple[int, str, str]]) -> Counter[tuple[str, str, str]]:
    expected: Counter[tuple[str, str, str]] = Counter()
    for at, source, destination in sent:
        if source in PARENT and destination in PARENT:
            start = f"2025-06-15T15:{7 + at // 60_000:02}:00Z"
            expected[start, PARENT[source], PARENT[destination]] += 1
    return expected


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=60))
def test_counts_equal_a_plain_counter(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    h, sent = play(steps, retention="600000")
    assert cells(h) == truth(sent)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=60))
def test_the_ledger_holds_and_nothing_is_counted_twice_when_events_are_late(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    h, sent = play(steps, retention="20000")
    assert h.routed.accepted == len(sent)
    assert h.routed.counted == h.counted == sum(cells(h).values())
    assert h.routed.late == len(h.records("late-events"))
    assert h.routed.dead == len(h.records("dead-letters"))


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=60))
def test_a_window_is_closed_once_by_every_partition_if_by_any(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    h, _ = play(steps, retention="600000")
    for _ in range(2):  # so that idle partitions come as far as the others
        h.run()
    closed = Counter(c["window"]["start"] for c in h.values("link-windows"))
    each = Counter((c["window"]["start"], c["partition"]) for c in h.values("link-windows"))
    assert set(closed.values()) <= {PARTITIONS}
    assert set(each.values()) <= {1}


@settings(max_examples=200, deadline=None)
@given(st.lists(step, max_size=60))
def test_what_is_closed_is_final(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    h, _ = play(steps, retention="600000")
    ends = Counter(c["window"]["start"] for c in h.values("link-windows"))
    for count in h.latest("link-counts").values():
        if ends[count["window"]["start"]] >= PARTITIONS:
            assert count["final"]
