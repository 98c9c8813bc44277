"""What a view says of itself to other threads, and when it must begin anew; without Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from consumers.memory_view import Lag, MemoryView, _Read
from consumers.topic_replay import Edges, Place
from infra.config import Config
from schemas.topics import MONITORING_SERIES, MONITORING_TOTALS

TOPICS = (MONITORING_TOTALS, MONITORING_SERIES)


def edges(places: Mapping[Place, tuple[int, int]], kept: Mapping[Place, int] | None = None) -> Edges:
    first = {place: first for place, (first, _) in places.items()}
    return Edges(time.monotonic(), {"t": "id"}, places, kept or first)


@pytest.mark.parametrize(
    ("before", "now", "emptied"),
    [
        ((0, 10), (0, 12), False),  # written
        ((0, 10), (9, 12), False),  # the beginning deleted
        ((0, 10), (10, 10), True),
        ((0, 10), (11, 15), True),  # written, emptied, and written again
        ((0, 0), (5, 5), True),  # the same, from nothing
        ((10, 10), (10, 10), False),  # empty before, too
        ((10, 10), (10, 15), False),
    ],
)
def test_a_place_is_emptied_where_all_that_it_held_is_gone(
    before: tuple[int, int], now: tuple[int, int], emptied: bool
) -> None:
    other = {("u", 0): (0, 7)}
    assert edges({("t", 0): now} | other).emptied_since(edges({("t", 0): before} | other)) is emptied
    assert not edges({("t", 1): now} | other).emptied_since(edges(other))  # a new partition


def test_what_is_not_to_be_read_any_more_is_not_emptied() -> None:
    kept = {("t", 0): 0}
    assert not edges({("t", 0): (10, 10)}, kept).emptied_since(edges({("t", 0): (4, 10)}, kept))


def test_the_lag_is_consistent_in_any_thread_while_the_view_reads_and_begins_anew() -> None:
    view: MemoryView[int] = MemoryView(Config(), TOPICS, lambda *_: 0, lambda _: None, lambda: None)
    assert view.lag() == Lag(None, None)
    stopped = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not stopped.is_set():
                lag = view.lag()
                assert lag.records is None or 0 <= lag.records <= 500
                assert lag.ms is None or lag.ms >= 0
        except BaseException as e:  # noqa: BLE001 - said by the test
            failed.append(e)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for turn in range(200):
            place = ("t", turn)  # each time other partitions, as of a topic that was made again
            now = _Read(edges({place: (0, 500)}), {place: 0}, {}, None)
            view._now = now
            for position in range(1, 501, 7):
                now.positions[place] = position
                now.times |= {("t", position): 0}
            now.positions[place] = 600  # it has read more than there was when it was asked
    finally:
        stopped.set()
        asking.join(60)
    assert not failed
    assert view.lag() == Lag(0, 0)
