"""Windowed jobs of every kind, over lists: what they count, when they say it, and that a crash changes nothing."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine.page_views import KINDS, VIEWS, pages
from weir.schemas.times import from_rfc3339
from weir.streams.api import (
    Avg,
    Count,
    Distinct,
    Emit,
    Max,
    Min,
    Quantiles,
    SessionWindows,
    Sum,
    TumblingWindows,
    Windowed,
)
from weir.streams.engine.aggregates import partials
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.offset_metadata import ID, Known, Log, write_envelope, write_metadata
from weir.streams.engine.dataplane.transactions import METADATA
from weir.streams.engine.progress.layout import PARTITIONS as PARTITIONS_AT_MOST
from weir.streams.engine.windowed import preaggregation
from weir.streams.engine.windowed.merge_windows import BEGINNINGS, EMPTY_WINDOWS, ROOMY, RUNS, MergeState
from weir.streams.testing import Harness

BASE = 1_750_000_020_000
PARTITIONS = 2
AGGREGATES = {
    "views": Count(),
    "total": Sum("worth"),
    "mean": Avg("worth"),
    "least": Min("worth"),
    "most": Max("worth"),
    "users": Distinct("user"),
    "quantiles": Quantiles("worth", (0.5, 1.0)),
}

Sent = list[tuple[int, str, str, float]]
partition = st.integers(0, PARTITIONS - 1)
event = st.tuples(
    st.just("event"), partition, st.integers(0, 4 * 60_000),
    st.sampled_from(["home", "cart"]), st.sampled_from("abc"), st.sampled_from([0.1, 0.2, -3.0, 1e16]),
)  # fmt: skip
task = st.tuples(st.sampled_from(["views", "page-partials"]), partition)
step = st.one_of(
    event, event,
    st.tuples(st.just("process"), task, st.integers(1, 4)),
    st.tuples(st.just("flush"), task),
    st.tuples(st.just("idle"), task),
    st.tuples(st.just("crash"), task),
    st.tuples(st.just("advance"), st.integers(0, 90_000)),
)  # fmt: skip
steps = st.lists(step, max_size=50)


def play(job: Windowed, moves: list[Any]) -> tuple[Harness, Sent]:
    h = Harness(job, PARTITIONS, now_ms=BASE)
    sent: Sent = []
    for name, *rest in moves:
        if name == "event":
            where, at, page, user, worth = rest
            h.send("views", {"page": page, "user": user, "worth": worth}, BASE + at, partition=where)
            sent.append((BASE + at, page, user, worth))
        elif name == "process":
            (topic, number), slice_size = rest
            h.process(topic, number, slice_size)
        elif name == "advance":
            h.advance(rest[0])
        else:
            getattr(h, name)(*rest[0])
    h.run()
    return h, sent


def groups(job: Windowed, sent: Sent) -> dict[tuple[int, int, str], Sent]:
    """The events of each cell, by (start, end, page): what the job is to see, found the slow way."""
    found: dict[tuple[int, int, str], Sent] = defaultdict(list)
    windows = job.windows
    for page in {one[1] for one in sent}:
        own = sorted(one for one in sent if one[1] == page)
        if isinstance(windows, SessionWindows):
            begin = 0
            for at in range(1, len(own) + 1):
                if at == len(own) or own[at][0] - own[at - 1][0] > windows.gap:
                    found[own[begin][0], own[at - 1][0], page] = own[begin:at]
                    begin = at
        else:
            for one in own:
                last = one[0] - one[0] % windows.advance
                for start in range(last - windows.size, last + 1, windows.advance):
                    if start <= one[0] < start + windows.size:
                        found[start, start + windows.size, page].append(one)
    return found


def cells(h: Harness) -> dict[tuple[int, int, str], dict[str, Any]]:
    """The latest result of each cell; those that a tombstone took away are gone."""
    found = {}
    for value in h.latest("pages").values():
        if value is not None:
            window = value.pop("window")
            found[from_rfc3339(window["start"]), from_rfc3339(window["end"]), value.pop("page")] = value
    return found


def exact(sent: Sent) -> dict[str, Any]:
    """Returns the exact aggregates of a cell's events."""
    worth = sorted(one[3] for one in sent)
    total = sum(map(Fraction, worth))
    return {
        "views": len(sent),
        "total": float(total),
        "mean": float(total / len(sent)),
        "least": worth[0],
        "most": worth[-1],
        "users": len({one[2] for one in sent}),
        "quantiles": [worth[(len(worth) + 1) // 2 - 1], worth[-1]],
    }


@pytest.mark.parametrize("changelog", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(steps)
def test_counts_equal_a_plain_count(kind: str, changelog: bool, moves: list[Any]) -> None:
    job = pages(kind, changelog=changelog)
    h, sent = play(job, moves)
    assert {cell: value["count"] for cell, value in cells(h).items()} == {
        cell: len(own) for cell, own in groups(job, sent).items()
    }
    assert h.counted == h.routed.counted == len(sent)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(steps)
def test_aggregates_equal_those_of_exact_arithmetic(kind: str, moves: list[Any]) -> None:
    job = pages(kind, aggregates=AGGREGATES)
    h, sent = play(job, moves)
    found = cells(h)
    for value in found.values():
        del value["final"]
    assert found == {cell: exact(own) for cell, own in groups(job, sent).items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(steps)
def test_results_on_close_are_those_of_closed_windows_and_final(kind: str, moves: list[Any]) -> None:
    every, _ = play(pages(kind), moves)
    closed, _ = play(pages(kind, Emit.CLOSED), moves)
    assert cells(closed) == {cell: value for cell, value in cells(every).items() if value["final"]}
    written = [r for r in closed.values("pages") if r is not None]
    assert all(r["final"] for r in written)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_what_memory_holds_is_what_was_written(moves: list[Any]) -> None:
    for kind in KINDS:
        h, _ = play(pages(kind), moves)
        found = {}
        for number in range(PARTITIONS):
            stage: Any = h.stage("page-partials", number)
            for page in ("home", "cart"):
                assert not stage.pending((page,))
                found.update({(c.start, c.end, page): (c.result, c.final) for c in stage.find((page,))})
        assert found == {cell: (value["count"], value["final"]) for cell, value in cells(h).items()}


def harness(job: Windowed) -> Harness:
    return Harness(job, 1, now_ms=BASE)


def view(at: int, page: str = "home") -> tuple[dict[str, Any], int]:
    return {"page": page, "user": "a", "worth": 1.0}, BASE + at


def test_two_sessions_that_an_event_between_them_joins_become_one_and_the_later_is_taken_back() -> None:
    h = harness(pages("session"))
    h.send("views", *view(0))
    h.send("views", *view(30_000))
    h.run()
    assert len(cells(h)) == 2
    h.send("views", *view(15_000))
    h.run()
    assert {cell[:2]: value["count"] for cell, value in cells(h).items()} == {(BASE, BASE + 30_000): 3}
    assert [r.key() for r in h.records("pages") if r.value() is None] == [b'["2025-06-15T15:07:30Z","home"]']


def test_a_closed_session_that_a_late_event_prolongs_is_open_again() -> None:
    h = harness(pages("session"))
    for at in (0, 26_000 + 20_000):
        h.send("views", *view(at))
    h.send("views", *view(80_000, "cart"))
    h.run()
    assert [value["final"] for cell, value in cells(h).items() if cell[2] == "home"] == [True, True]
    h.send("views", *view(62_000))
    h.run()
    assert {cell[:2]: value["final"] for cell, value in cells(h).items() if cell[2] == "home"} == {
        (BASE, BASE): True,
        (BASE + 46_000, BASE + 62_000): False,
    }


def test_a_session_that_is_forgotten_takes_no_room_and_its_place_in_the_changelog_is_let_go() -> None:
    h = harness(pages("session"))
    for minute in range(30):
        h.now_ms = BASE + minute * 60_000
        h.send("views", *view(minute * 60_000, f"page-{minute}"))
        h.run()
        if minute % 7 == 0:
            h.crash()
    h.run()
    stage: Any = h.stage("page-partials", 0)
    live = [minute for minute in range(30) if stage.find((f"page-{minute}",))]
    assert live == list(range(live[0], 30))
    assert 15 <= live[0] <= 19
    metadata = msgspec.json.decode(h.committed["page-partials", 0][1])
    assert 0 < metadata[3] <= len(h.records("pages")) - (30 - live[0])


def test_a_closed_session_that_is_open_again_is_taken_back_also_after_a_restart() -> None:
    h = harness(pages("session", Emit.CLOSED))

    def count(*views: tuple[dict[str, Any], int]) -> None:
        for one in views:
            h.send("views", *one)
        while h.step():
            pass

    count(view(0), view(100_000, "cart"))
    assert list(h.latest("pages")) == [b'["2025-06-15T15:07:00Z","home"]']
    count(*(view(at) for at in (20_000, 40_000, 60_000, 80_000)))  # open again
    h.crash()
    count(view(-10_000), view(300_000, "cart"))
    assert {cell[0]: value["count"] for cell, value in cells(h).items() if cell[2] == "home"} == {BASE - 10_000: 6}


def test_a_key_may_have_many_sessions() -> None:
    """More than anything could bear that looks at all of them for each."""
    number, windows = 50_000, SessionWindows(10, 0, 60_000)
    h = harness(pages("session", windows=windows))
    for at in range(number):
        h.send("views", *view(21 * at))
    h.run(slice_size=number)
    h.send("views", *view(21 * number + 120_000))
    h.run()
    assert len(cells(h)) == number + 1
    stage: Any = h.stage("page-partials", 0)
    assert len(stage.find(("home",))) == 1


def test_a_key_with_a_part_that_is_no_text_goes_to_the_dead_letters() -> None:
    h = harness(pages(key=lambda view: (view.page or None,)))
    for page in ("home", "", "home"):
        h.send("views", *view(0, page))
    h.run()
    assert (h.routed.counted, h.routed.dead) == (2, 1)


def test_a_key_that_is_no_tuple_is_a_mistake_of_the_job() -> None:
    h = harness(pages(key=lambda view: view.page))
    h.send("views", *view(0))
    with pytest.raises(EngineError, match="not 'home'"):
        h.run()


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"retention.ms": "59999"}, False),
        ({"retention.ms": "60000"}, True),
        ({"retention.ms": "-1"}, True),
        ({"cleanup.policy": "compact", "retention.ms": "1"}, True),
        ({"cleanup.policy": "compact,delete", "retention.ms": "1"}, False),
    ],
)
def test_windows_are_not_kept_longer_than_the_topic_that_holds_their_state(config: dict[str, str], kept: bool) -> None:
    job = pages()
    changelog = dataclasses.replace(job.changelog or job.output, config=config)
    windows = TumblingWindows(60_000, 0, 60_000)
    if kept:
        dataclasses.replace(job, windows=windows, changelog=changelog)
    else:
        with pytest.raises(ValueError, match="keeps records for"):
            dataclasses.replace(job, windows=windows, changelog=changelog)
    with pytest.raises(ValueError, match="keeps records for 604800000"):  # a broker's default
        dataclasses.replace(job, windows=TumblingWindows(60_000, 0, 8 * 24 * 3_600_000))


@pytest.mark.parametrize(("partitions", "beginnings"), [(ROOMY, BEGINNINGS), (PARTITIONS_AT_MOST, 0)])
def test_metadata_of_many_partitions_fits_an_offset(partitions: int, beginnings: int) -> None:
    times, runs = [1 << 41] * partitions, [(-(10**6), 10**6)] * RUNS
    begun = [(10**6, 10**10)] * beginnings
    state = MergeState(
        128, times, times, 1 << 41, 1 << 41, 10**13, 10**14, 1 << 41, 10**13, runs, runs, 1 << 41, 1 << 41, begun
    )
    known, log = [Known("x" * ID, 128)] * 3, Log("x" * ID, None, 10**13)
    assert len(write_envelope(write_metadata(state), known, log)) <= METADATA


def test_a_closed_window_that_is_revised_by_the_flush_in_which_time_jumps_is_not_closed_again() -> None:
    h = harness(pages(max_skew=10**9))
    h.send("views", *view(0))
    h.send("views", *view(65_000))
    h.run()
    h.crash("views", 0)
    h.send("views", *view(30_000))
    h.send("views", *view(3 * 24 * 3_600_000 - 20_000))
    h.run()
    closed = [value["window"]["start"] for value in h.values("page-windows")]
    assert closed.count("2025-06-15T15:07:00Z") == 1
    assert len(closed) == len(set(closed)) > EMPTY_WINDOWS


def test_a_value_that_cannot_be_aggregated_goes_to_the_dead_letters_alone() -> None:
    job = pages(aggregates={"total": Sum("worth")})
    h = harness(job)
    h.send("views", *view(0))
    h.send("views", [{"page": "home", "user": "a", "worth": 1e300}, {"page": "home", "user": "a", "worth": 2.0}], BASE)
    h.run()
    assert [value["total"] for value in cells(h).values()] == [3.0]
    assert (h.routed.counted, h.routed.dead) == (2, 1)


def test_a_key_too_long_to_travel_goes_to_the_dead_letters() -> None:
    h = harness(pages())
    h.send("views", *view(0, "x" * 1025))
    h.send("views", *view(0, "y" * 1024))
    h.run()
    assert (h.routed.counted, h.routed.dead) == (1, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keys": lambda elements, times: []}, "either key or keys"),
        ({"key": None}, "either key or keys"),
        ({"key": "page"}, "a list of attributes' names"),
        ({"key": []}, "a list of attributes' names"),
        ({"emit": Emit.CLOSED, "changelog": None}, "needs a changelog"),
        ({"windows": KINDS["session"], "closings": VIEWS}, "sessions close one by one"),
        ({"store": "tape"}, "unknown store 'tape'; known stores: memory, rocksdb"),
        ({"source": pages().partials}, "no type to decode"),
        ({"aggregates": {"page": Count()}}, "two fields of one name: page"),
        ({"aggregates": {"final": Count()}}, "two fields of one name: final"),
        ({"read": lambda record: None, "aggregates": AGGREGATES}, "goes with counts alone"),
    ],
)
def test_a_job_that_cannot_work_is_refused_where_it_is_declared(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(pages(), **change)


def test_more_sessions_of_one_key_than_a_partial_holds_go_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preaggregation, "ROOM", 3)
    monkeypatch.setattr(partials, "ROOM", 3)
    h = harness(pages("session"))
    for n in range(10):
        h.send("views", *view(n * 30_000))
    h.process("views", 0)
    h.flush("views", 0)
    assert len(h.records("page-partials")) == 4
    h.run()
    assert sorted(value["count"] for value in cells(h).values()) == [1] * 10
    assert h.counted == 10
