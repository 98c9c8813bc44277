"""When a task flushes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.pace import FEW, GROWTH, Pace

LINGER = 0.2


def test_a_few_records_with_nothing_behind_them_are_flushed_at_once() -> None:
    pace = Pace(LINGER)
    pace.flushes(10.0)
    pace.handled(10.001, FEW, drained=True)
    assert pace.due(10.001, patient=False) == 0


def test_many_wait_a_tenth_of_the_linger_after_the_last_flush() -> None:
    pace = Pace(LINGER)
    pace.flushes(10.0)
    pace.handled(10.005, FEW + 1, drained=True)
    assert round(pace.due(10.005, patient=False), 6) == 0.015
    assert pace.due(10.021, patient=False) == 0


def test_a_task_that_is_behind_flushes_when_the_linger_is_over() -> None:
    pace = Pace(LINGER)
    pace.handled(9.9, 1, drained=True)
    pace.flushes(10.0)
    pace.handled(10.05, 10_000, drained=False)
    assert round(pace.due(10.05, patient=False), 6) == 0.15
    assert pace.due(10.21, patient=False) == 0


def test_the_longer_it_is_behind_the_more_goes_into_one_flush() -> None:
    pace = Pace(LINGER)
    for now in (0.0, 1.0, 2.0, 3.0, 100.0):
        pace.handled(now, 10_000, drained=False)
    assert [round(pace.linger(now), 3) for now in (0.5, 2.0, 100.0)] == [0.25, 1.0, GROWTH * LINGER]
    pace.handled(101.0, 1, drained=True)
    assert pace.linger(101.0) == LINGER


def test_what_is_known_to_be_followed_by_more_waits_for_it() -> None:
    pace = Pace(LINGER)
    pace.flushes(10.0)
    pace.handled(10.05, 1, drained=True)
    assert round(pace.due(10.05, patient=True), 6) == 0.15


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100_000), st.booleans(), st.booleans())), st.booleans())
def test_nothing_waits_longer_than_the_grown_linger(moves: list[tuple[float, int, bool, bool]], patient: bool) -> None:
    pace, now = Pace(LINGER), 0.0
    for elapsed, records, drained, flushes in moves:
        now += elapsed
        pace.handled(now, records, drained)
        assert 0 <= pace.due(now, patient) <= GROWTH * LINGER
        if flushes:
            pace.flushes(now)
