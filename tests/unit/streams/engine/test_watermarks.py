"""Watermarks: per source partition, and merged."""

from __future__ import annotations

from weir.streams.engine.core.watermarks import PENDING, MergedWatermarks, SourceWatermark


def test_a_watermark_is_the_largest_timestamp_delivered() -> None:
    mark = SourceWatermark(retention=100)
    for timestamp in (5, 9, 7):
        mark.delivered(timestamp)
    assert (mark.watermark, mark.horizon) == (9, 9)


def test_a_declared_watermark_closes_windows_at_once_and_makes_late_only_after_the_retention() -> None:
    mark = SourceWatermark(retention=100)
    mark.delivered(10)
    mark.declare(60, clock_ms=1_000)
    assert (mark.watermark, mark.horizon) == (60, 10)
    mark.declare(160, clock_ms=1_100)
    assert (mark.watermark, mark.horizon) == (160, 60)


def test_a_watermark_never_falls() -> None:
    mark = SourceWatermark(retention=0)
    mark.declare(50, clock_ms=0)
    mark.delivered(20)
    mark.declare(40, clock_ms=1)
    assert mark.watermark == 50


def test_a_partition_not_heard_of_holds_every_window_open() -> None:
    merged = MergedWatermarks(2)
    merged.heard(0, 1_000, 1_000)
    assert merged.watermark is None
    merged.heard(1, 500, 400)
    assert (merged.watermark, merged.horizon) == (500, 400)


def test_a_long_retention_takes_no_more_memory_than_a_short_one() -> None:
    mark = SourceWatermark(100_000_000)
    for now in range(0, 250_000_000, 10_000):
        mark.declare(now, now)
    assert len(mark.pending) <= PENDING + 1
    assert mark.horizon is not None
    assert 0 <= 150_000_000 - mark.horizon <= 200_000
