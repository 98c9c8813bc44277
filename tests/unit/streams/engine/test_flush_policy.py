"""When a task flushes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.streams.engine.dataplane.flush_policy import FEW, GAP, LONGEST_S, SHARE, FlushPolicy

LINGER = 0.2


def at_speed(rate: int) -> FlushPolicy:
    """A pace that has seen so many records a second, and flushed at second 10."""
    pace = FlushPolicy(LINGER)
    for now in range(1, 11):
        pace.handled(now * 1.1, round(rate * 1.1), 0)
    pace.flushes(12.0)
    return pace


def test_a_few_records_with_nothing_behind_them_are_flushed_at_once() -> None:
    pace = at_speed(100)
    pace.handled(12.001, FEW, 0)
    assert pace.due(12.001, upstream=0) == 0


def test_many_wait_a_part_of_the_linger_after_the_last_flush() -> None:
    pace = at_speed(20_000)
    pace.handled(12.01, FEW + 1, 0)
    assert pace.due(12.01, upstream=0) == pytest.approx(GAP * LINGER - 0.01)
    assert pace.due(12.1, upstream=0) == 0


def test_the_more_is_left_the_more_goes_into_one_flush() -> None:
    pace = at_speed(20_000)
    waits = []
    for left in (1_000, 10_000, 40_000, 10_000_000):
        pace.handled(12.0, 100, left)
        waits.append(pace.due(12.0, upstream=0))
    assert waits == pytest.approx([GAP * LINGER, SHARE * 0.5, SHARE * 2, LONGEST_S], rel=0.01)


def test_what_is_known_to_be_followed_by_more_waits_for_it() -> None:
    pace = at_speed(100)
    pace.handled(12.05, 1, 0)
    assert pace.due(12.05, upstream=1.0) == pytest.approx(SHARE - 0.05)


def test_before_the_speed_is_known_what_is_left_counts_as_a_linger() -> None:
    pace = FlushPolicy(LINGER)
    pace.handled(1.0, 10_000, 1_000_000)
    assert pace.backlog == LINGER


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100_000), st.integers(0, 10_000_000), st.booleans())),
    st.floats(0, 1e6),
)
def test_nothing_waits_longer_than_the_grown_linger(moves: list[tuple[float, int, int, bool]], upstream: float) -> None:
    pace, now = FlushPolicy(LINGER), 0.0
    for elapsed, records, left, flushes in moves:
        now += elapsed
        pace.handled(now, records, left)
        assert 0 <= pace.due(now, upstream) <= LONGEST_S
        if flushes:
            pace.flushes(now)
