"""How far a view has read, as other threads see it, and when it must begin anew; without Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from support.wait import PATIENCE_S
from weir.consumers.monitoring.view import ClientView
from weir.consumers.views.replay import Edges
from weir.consumers.views.view import _Read
from weir.infra.config import Config
from weir.schemas.topic import PartitionId


def edges(places: Mapping[PartitionId, tuple[int, int]], kept: Mapping[PartitionId, int] | None = None) -> Edges:
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


def test_positions_are_consistent_in_any_thread_while_the_view_reads_and_begins_anew() -> None:
    view = ClientView(Config())
    assert view.positions() == {}
    stopped = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not stopped.is_set():
                assert all(0 <= position <= 600 for position in view.positions().values())
                assert not view.caught_up
        except BaseException as e:  # noqa: BLE001 - said by the test
            failed.append(e)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for turn in range(200):
            place = ("t", turn)  # each time other partitions, as of a topic that was made again
            now = _Read(edges({place: (0, 500)}), {place: 0}, False)
            view._now = now
            for position in range(1, 501, 7):
                now.positions[place] = position
                now.positions[("t", 1000 + position)] = 0
    finally:
        stopped.set()
        asking.join(PATIENCE_S)
    assert not failed
