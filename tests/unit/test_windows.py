"""Window arithmetic, without any runtime."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.windows import TumblingWindows

MINUTE = TumblingWindows(size=60_000, grace=5_000, retention=600_000)


@given(st.integers(min_value=0, max_value=1 << 42), st.integers(min_value=1, max_value=86_400_000))
def test_every_timestamp_is_in_exactly_one_window(timestamp: int, size: int) -> None:
    windows = TumblingWindows(size, 0, 0)
    start = windows.start(timestamp)
    assert start <= timestamp < start + size
    assert start % size == 0


def test_a_window_closes_once_the_watermark_passes_its_end_plus_grace() -> None:
    #  0        60        120 s
    #  ├─ first ─┼─ second ─┤
    #            end  +5 grace: closed from 65 s on
    assert MINUTE.closed_before(64_999) == 0
    assert MINUTE.closed_before(65_000) == 60_000


@given(st.integers(min_value=0, max_value=1 << 42))
def test_a_window_never_closes_before_its_grace_is_over(watermark: int) -> None:
    assert MINUTE.closed_before(watermark) + MINUTE.grace <= watermark or watermark < MINUTE.grace


def test_an_event_is_late_only_once_the_retention_is_over() -> None:
    assert MINUTE.late_before(700_000) == 100_000
