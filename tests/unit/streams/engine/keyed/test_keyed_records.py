"""A keyed job sees the record that an element came in, and hands its time and its headers on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.engine.keyed_script_job import BASE, JOB, OUT, ROUTED, Act, Total, act, both, harness
from weir.schemas.dead_letters import from_headers
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed

#: An hour and a half: farther ahead than a broker takes by default.
FAR = 90 * 60_000
UNTIMED = replace(JOB, on_timer=None, max_skew=60_000)


def written(h: Any) -> list[Any]:
    return [(r.value(), r.headers()) for r in h.records("out")]


@both
def test_headers_are_handed_on_unless_others_are_given(job: Keyed[Act, Total]) -> None:
    def thrice(ctx: Context[Total], act: Act) -> None:
        ctx.emit(OUT, b"handed on")
        ctx.emit(OUT, b"others", headers=[("x", b"1")])
        ctx.emit(OUT, b"none", headers=[])

    def late(ctx: Context[Total], name: str) -> None:
        ctx.emit(OUT, b"of a timer")

    def start(ctx: Context[Total], act: Act) -> None:
        thrice(ctx, act)
        ctx.timer("t", ctx.timestamp)

    h = harness(replace(job, process=start, on_timer=late))
    own = [("trace", b"7"), ("nothing", None), ("weir.replayed_from", b"0/7"), ("weir-state", b"s")]
    act(h, headers=own)
    h.run()
    handed = [("trace", b"7"), ("nothing", None)]
    assert written(h)[:3] == [(b"handed on", handed), (b"others", [("x", b"1")]), (b"none", [])]
    assert written(h)[3:] == [(b"of a timer", None)]


@both
def test_the_record_says_where_an_element_came_from(job: Keyed[Act, Total]) -> None:
    seen: list[Any] = []

    def look(ctx: Context[Total], act: Act) -> None:
        record = ctx.record
        assert record is not None
        seen.append((record.topic(), record.partition(), record.offset(), record.key(), record.headers()))
        seen.append(record.timestamp()[1])

    h = harness(replace(job, process=look), partitions=2)
    act(h, partition=1, key=b"k", headers=[("trace", b"7")])
    act(h, partition=1, at=5)
    h.run()
    assert seen == [("acts", 1, 0, b"k", [("trace", b"7")]), BASE, ("acts", 1, 1, None, None), BASE + 5]


@both
@pytest.mark.parametrize("job_limit", [1 << 20])
def test_what_is_too_large_with_its_headers_is_refused(job: Keyed[Act, Total], job_limit: int) -> None:
    h = harness(job)
    act(h, ("emit", "x" * 1000), headers=[("h", b"y" * job_limit)])
    act(h, ("emit", "good"))
    h.run()
    assert [v[0] for v in h.values("out")] == ["good"]
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["too-large"]
    assert (h.routed.counted, h.routed.dead) == (1, 1)


def test_what_a_repartition_topic_does_not_take_with_its_headers_is_refused() -> None:
    routed = replace(ROUTED, config={"max.message.bytes": str(2 << 20)})
    h = harness(replace(JOB, repartition=routed))
    act(h, ("emit", "bad"), headers=[("h", b"y" * (2 << 20))])
    act(h, ("emit", "good"))
    h.run()
    assert [v[0] for v in h.values("out")] == ["good"]
    assert (h.routed.counted, h.routed.dead) == (1, 1)


@pytest.mark.parametrize("repartition", [None, ROUTED], ids=["direct", "routed"])
def test_a_job_without_time_processes_what_is_ahead_of_the_clock(repartition: Any) -> None:
    marks: list[int | None] = []

    def look(ctx: Context[Total], act: Act) -> None:
        marks.append(ctx.watermark)
        ctx.emit(OUT, [act.key, ctx.timestamp])

    h = harness(replace(UNTIMED, process=look, repartition=repartition))
    act(h, at=FAR)
    act(h, at=1)
    h.run()
    assert h.values("out") == [["a", BASE + FAR], ["a", BASE + 1]]
    assert (h.routed.counted, h.routed.dead) == (2, 0)
    assert [r.timestamp()[1] for r in h.records("out")] == [BASE + 60_000, BASE + 1]
    assert max(mark or 0 for mark in marks) <= BASE + 60_000


@pytest.mark.parametrize("timed", [{"ttl": 60_000, "on_timer": None}, {}], ids=["ttl", "timers"])
@pytest.mark.parametrize("repartition", [None, ROUTED], ids=["direct", "routed"])
def test_a_job_with_time_refuses_what_is_ahead_of_the_clock(timed: dict[str, Any], repartition: Any) -> None:
    h = harness(replace(JOB, max_skew=60_000, repartition=repartition, **timed))
    act(h, ("emit", "x"), at=FAR)
    h.run()
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["timestamp"]


@both
def test_a_negative_time_of_a_record_is_refused(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, process=lambda ctx, act: ctx.emit(OUT, b"x", timestamp=-1)))
    act(h)
    h.run()
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["timestamp"]


@both
def test_a_record_that_is_further_ahead_than_its_topic_takes_is_refused(job: Keyed[Act, Total]) -> None:
    hour = replace(OUT, config={})
    job = replace(
        job, outputs=(hour,), max_skew=0, process=lambda ctx, act: ctx.emit(hour, b"x", timestamp=act.steps[0][1])
    )
    h = harness(job)
    for ahead in (3_600_000, 3_600_001):
        act(h, ("at", BASE + ahead))
    h.run()
    assert [r.timestamp()[1] for r in h.records("out")] == [BASE + 3_600_000]
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["timestamp"]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a\n"])
def test_a_name_of_a_job_has_nothing_that_separates_names(name: str) -> None:
    with pytest.raises(ValueError, match="only letters, digits"):
        replace(JOB, name=name)
