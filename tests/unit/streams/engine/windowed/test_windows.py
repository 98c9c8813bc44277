"""Window arithmetic, without any runtime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.streams.engine.windowed.windows import HoppingWindows, SessionWindows, TumblingWindows

MINUTE = TumblingWindows(size=60_000, grace=5_000, retention=600_000)
times = st.integers(min_value=0, max_value=1 << 42)
lengths = st.integers(min_value=1, max_value=86_400_000)


@given(times, lengths)
def test_a_tumbling_window_is_its_own_pane(timestamp: int, size: int) -> None:
    windows = TumblingWindows(size, 0, 0)
    assert list(windows.starts(timestamp - timestamp % windows.pane)) == [timestamp // size * size]


@given(st.integers(0, 500), st.integers(1, 50).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))))
def test_an_event_is_in_every_hopping_window_that_spans_it(timestamp: int, lengths: tuple[int, int]) -> None:
    size, advance = lengths
    windows = HoppingWindows(size, advance, 0, 0)
    found = windows.starts(timestamp - timestamp % windows.pane)
    assert list(found) == [start for start in range(0, 600, advance) if start <= timestamp < start + size]


@given(times, lengths)
def test_hopping_by_the_whole_size_is_tumbling(watermark: int, size: int) -> None:
    hopping, tumbling = HoppingWindows(size, size, 7, 9), TumblingWindows(size, 7, 9)
    assert hopping.open_from(watermark) == tumbling.open_from(watermark)
    assert hopping.pane == tumbling.pane


def test_windows_that_would_leave_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot start every"):
        HoppingWindows(10, 11, 0, 0)


@pytest.mark.parametrize(("size", "grace", "retention"), [(0, 0, 0), (10, -1, 0), (10, 5, 4), (10.0, 0, 0)])
def test_what_is_no_window_is_refused(size: int, grace: int, retention: int) -> None:
    for kind in (TumblingWindows, SessionWindows):
        with pytest.raises(ValueError, match="windows"):
            kind(size, grace, retention)


def test_a_window_closes_once_the_watermark_passes_its_end_plus_grace() -> None:
    #  0        60        120 s
    #  ├─ first ─┼─ second ─┤
    #            end  +5 grace: closed from 65 s on
    assert MINUTE.open_from(64_999) == 0
    assert MINUTE.open_from(65_000) == 60_000


@given(times, st.integers(1, 50).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))))
def test_a_window_never_closes_before_its_grace_is_over(watermark: int, lengths: tuple[int, int]) -> None:
    windows = HoppingWindows(*lengths, grace=5, retention=100)
    last_closed = windows.open_from(watermark) - windows.advance
    assert last_closed + windows.size + windows.grace <= watermark
    assert last_closed + windows.advance + windows.size + windows.grace > watermark


def test_an_event_is_late_only_once_the_retention_is_over() -> None:
    assert MINUTE.late_before(700_000) == 100_000
