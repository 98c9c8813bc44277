"""Keyed state and event time: timers fire in order, what is old goes, restarts and silence turn nothing back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.engine.keyed_script_job import BASE, Act, Total, act, both, harness, state
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.keyed.job import Keyed


@both
def test_timers_fire_once_in_order_of_time_key_and_name(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("timer", ("late", BASE + 300)), ("timer", ("y", BASE + 200)), ("timer", ("x", BASE + 200)), who="b")
    act(h, ("timer", ("z", BASE + 200)), ("timer", ("moved", BASE + 200)), ("timer", ("gone", BASE + 100)))
    act(h, ("timer", ("moved", BASE + 100)), ("cancel", "gone"), at=1)
    h.run()
    h.crash()
    act(h, ("emit", "before"), at=99)
    act(h, ("emit", "after"), at=250)
    h.run()
    fired = [v[:2] for v in h.values("out")]
    assert fired == [["before", None], ["a", "moved"], ["a", "z"], ["b", "x"], ["b", "y"], ["after", None]]
    assert state(h) is None
    assert state(h, "b").timers == {"late": BASE + 300}


@both
def test_a_timer_that_is_due_fires_at_once_and_may_set_itself_again(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("timer", ("past", BASE - 5)), ("emit", "first"), ("timer", ("again", BASE)))
    act(h, ("emit", "last"), at=25_000)
    h.run()
    assert [v[2] - BASE if v[0] == "a" else v[0] for v in h.values("out")] == ["first", -5, 0, 10_000, 20_000, "last"]
    assert state(h).timers == {"again": BASE + 30_000}


@both
def test_an_idle_partition_lets_timers_fire_by_the_clock(job: Keyed[Act, Total]) -> None:
    h = harness(job, partitions=3)
    act(h, ("timer", ("t", BASE + 60_000)), partition=owner(("a",), 3))
    h.run()
    h.advance(59_000)
    h.run()
    assert not h.values("out")
    h.crash()
    h.advance(1_000)
    h.run()
    assert [v[1] for v in h.values("out")] == ["t"]
    h.advance(600_000)
    h.run()
    assert len(h.values("out")) == 1


@both
def test_event_time_is_restored_and_an_old_event_does_not_turn_it_back(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, at=1000)
    h.run()
    h.crash()
    act(h, ("emit", "old"), ("timer", ("past", BASE + 500)), at=10)
    h.run()
    assert h.values("out") == [["old", None, BASE + 1000], ["a", "past", BASE + 500]]


@both
def test_events_after_a_silence_say_again_how_far_event_time_is(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h)
    h.run()
    h.advance(10_000)
    h.run()
    act(h, ("timer", ("t", BASE + 65_000)), at=60_000)
    h.run()
    h.advance(5_000)
    h.run()
    assert [v[1] for v in h.values("out")] == ["t"]


@both
def test_a_key_that_is_not_written_expires_unless_a_timer_keeps_it(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, ttl=1000))
    act(h, ("add", 1))
    act(h, ("add", 1), who="kept")
    act(h, ("add", 1), ("timer", ("t", BASE + 5000)), who="timed")
    act(h, ("emit", "read"), at=999)
    act(h, ("add", 1), at=999, who="kept")
    h.run()
    assert state(h).state.total == 1
    act(h, ("emit", "expired"), at=1000)
    act(h, ("emit", "kept"), at=1001, who="kept")
    h.run()
    assert [v[:2] for v in h.values("out")] == [["read", 1], ["expired", None], ["kept", 2]]
    assert state(h) is None
    assert h.records("totals")[-1].value() is None
    act(h, at=5000)
    h.run()
    assert state(h, "timed").touched == BASE + 5000
    act(h, at=5999)
    h.run()
    assert state(h, "timed") is not None
    act(h, at=6000)
    h.run()
    assert (state(h, "timed"), state(h, "kept")) == (None, None)


@both
def test_an_old_event_does_not_make_a_key_old(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, ttl=1000))
    act(h, at=50_000)
    act(h, ("add", 1), at=0)
    act(h, ("emit", "still"), at=50_999)
    h.run()
    assert [v[:2] for v in h.values("out")] == [["still", 1]]


@both
def test_a_timer_needs_somebody_to_tell_and_a_whole_number(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, on_timer=None))
    act(h, ("timer", ("t", BASE)))
    with pytest.raises(EngineError, match="no on_timer"):
        h.run()
    h = harness(job)
    act(h, ("timer", ("t", 1.5)))
    with pytest.raises(TypeError, match=r"must be an int, in epoch milliseconds, not 1\.5"):
        h.run()
