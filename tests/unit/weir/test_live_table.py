"""The demo's table: records in, what is shown out."""

from __future__ import annotations

import msgspec
import pytest

from weir.demo.live_table import LiveTable, Rate, WindowTotal
from weir.schemas import examples
from weir.schemas.links import Link, LinkCount
from weir.schemas.times import from_rfc3339
from weir.schemas.windows import Window, WindowClosed

NOON = Window("2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z")
LATER = Window("2026-01-31T12:01:00Z", "2026-01-31T12:02:00Z")


def count(window: Window, source: str, number: int, final: bool = False) -> LinkCount:
    """A count of the link from `source` to billing."""
    return LinkCount(window, source, "billing", number, final)


def closed(window: Window, partition: int, cells: int) -> WindowClosed:
    """One of two partitions has closed the window."""
    return WindowClosed(window, partition, 2, cells)


def test_the_latest_count_of_a_link_is_the_truth() -> None:
    table = LiveTable()
    table.count(0, count(NOON, "shop", 3))
    table.count(0, count(NOON, "shop", 7))
    table.count(1, count(NOON, "cart", 9))
    shown = table.snapshot()
    assert shown.current == WindowTotal(NOON, calls=16, links=2)
    assert shown.busiest == [Link("cart", "billing", 9), Link("shop", "billing", 7)]
    assert (shown.closed, shown.calls) == ([], 16)


def test_only_the_busiest_are_shown() -> None:
    table = LiveTable()
    for number in range(100):
        table.count(0, count(NOON, f"s{number}", number))
    assert [link.count for link in table.snapshot(busiest=3).busiest] == [99, 98, 97]


def test_the_current_window_is_the_newest_that_is_open() -> None:
    table = LiveTable()
    table.count(0, count(LATER, "shop", 1))
    table.count(0, count(NOON, "shop", 5))
    shown = table.snapshot()
    assert (shown.current, shown.closing) == (WindowTotal(LATER, 1, 1), [WindowTotal(NOON, 5, 1)])


@pytest.mark.parametrize("closings_first", [True, False])
def test_a_window_is_closed_when_all_partitions_say_so_and_their_counts_are_there(closings_first: bool) -> None:
    table = LiveTable()
    steps = [
        lambda: table.count(0, count(NOON, "shop", 7, final=True)),
        lambda: table.closed(closed(NOON, partition=0, cells=1)),
        lambda: table.closed(closed(NOON, partition=1, cells=0)),
    ]
    for step in reversed(steps) if closings_first else steps:
        assert table.snapshot().closed == []
        step()
    assert table.snapshot().closed == [WindowTotal(NOON, 7, 1)]
    assert table.snapshot().current is None


def test_an_empty_window_closes_too() -> None:
    table = LiveTable()
    for partition in (0, 1):
        table.closed(closed(NOON, partition, cells=0))
    assert table.snapshot().closed == [WindowTotal(NOON, 0, 0)]


def test_a_revision_changes_a_closed_window() -> None:
    table = LiveTable()
    table.count(0, count(NOON, "shop", 7, final=True))
    table.closed(closed(NOON, 0, 1))
    table.closed(closed(NOON, 1, 0))
    table.count(0, count(NOON, "shop", 8, final=True))
    shown = table.snapshot()
    assert (shown.closed, shown.calls) == ([WindowTotal(NOON, 8, 1)], 8)


def test_old_windows_are_forgotten_and_their_calls_are_not() -> None:
    table = LiveTable(kept=1)
    table.count(0, count(NOON, "shop", 7))
    table.count(0, count(LATER, "shop", 1))
    shown = table.snapshot()
    assert (shown.current, shown.calls) == (WindowTotal(LATER, 1, 1), 8)


def test_windows_that_ended_before_are_left_out() -> None:
    table = LiveTable(since=from_rfc3339(NOON.end))
    table.count(0, count(NOON, "shop", 7))
    table.count(0, count(LATER, "shop", 1))
    for partition in (0, 1):
        table.closed(closed(NOON, partition, cells=0))
    shown = table.snapshot()
    assert (shown.current, shown.closed, shown.calls) == (WindowTotal(LATER, 1, 1), [], 1)


def test_the_topics_examples_can_be_shown() -> None:
    table = LiveTable()
    for record in examples.load("link-counts").records():
        table.count(0, msgspec.json.decode(record, type=LinkCount))
    for record in examples.load("link-windows").records():
        table.closed(msgspec.json.decode(record, type=WindowClosed))
    assert table.snapshot().calls > 0


def test_a_rate_is_growth_per_second_over_its_span() -> None:
    rate = Rate(span=5)
    assert rate.per_second(100.0, 50) == 0.0
    assert rate.per_second(102.0, 70) == 10.0
    assert rate.per_second(110.0, 70) == 0.0
    assert rate.per_second(111.0, 75) == 5 / 9
