"""Windowed jobs that find an event's time in the event: everything goes by it, nothing by the record's timestamp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine.page_views import KINDS, View, pages
from weir.schemas.dead_letters import Reason, from_headers
from weir.schemas.errors import PoisonError
from weir.streams.engine.core.errors import EngineError
from weir.streams.testing import Harness

BASE = 1_750_000_020_000
#: A view with this worth has no time that anybody could read.
TIMELESS = -7.0


def times(views: Sequence[View], timestamps: Sequence[int]) -> list[int]:
    if any(view.worth == TIMELESS for view in views):
        raise PoisonError(Reason.TIMESTAMP, "no time")
    return [view.at for view in views]


def outcome(h: Harness) -> dict[str, Any]:
    """Returns the outcome of all events in a form that does not depend on which records they came in."""
    letters = [(from_headers(r.headers()).reason, r.value()) for r in h.records("dead-letters")]
    return {
        "pages": h.latest("pages"),
        "late": [r.value() for r in h.records("late-events")],
        "dead": letters,
        "closed": h.latest("page-windows"),
        "routed": h.routed,
    }


#: Most of them in order enough to be counted; some late, negative, ahead of the clock, or without a time.
moment = st.integers(0, 240_000) | st.sampled_from([-BASE - 5, -500_000, 900_000, 1_800_000, 20_000_000])
one = st.tuples(moment, st.sampled_from(["home", "cart"]), st.sampled_from([1.0] * 9 + [TIMELESS]))
stamp = st.sampled_from([-1, 0, BASE, 1 << 60])
flush = st.booleans()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(one, min_size=1, max_size=12), stamp, flush), max_size=8))
def test_it_is_as_if_each_event_were_a_record_with_that_timestamp(kind: str, batches: list[Any]) -> None:
    by_record = Harness(pages(kind), now_ms=BASE)
    by_event = Harness(pages(kind, times=times), now_ms=BASE)
    for several, stamped, flushes in batches:
        views = [{"page": page, "user": "a", "worth": worth, "at": BASE + at} for at, page, worth in several]
        for view in views:
            by_record.send("views", view, -1 if view["worth"] == TIMELESS else view["at"])
        by_event.send("views", views, stamped)
        if flushes:
            by_record.step()
            by_event.step()
    by_record.run()
    by_event.run()
    assert outcome(by_event) == outcome(by_record)


def send(h: Harness, *at: int, stamped: int = -1) -> None:
    h.send("views", [{"page": "home", "user": "a", "worth": 1.0, "at": BASE + one} for one in at], stamped)


def test_keys_are_given_the_times_of_the_events() -> None:
    h = Harness(pages(key=None, keys=lambda views, at: [(str(one - BASE),) for one in at], times=times), now_ms=BASE)
    send(h, 5, 7)
    send(h, 9, 20_000_000)  # one by one
    h.run()
    assert sorted(value["key"] for value in h.values("pages")) == [["5"], ["7"], ["9"]]


def test_what_is_ahead_of_the_clock_is_the_event_and_not_its_record() -> None:
    h = Harness(pages(times=times, max_skew=1000), now_ms=BASE)
    send(h, 1000, 1001, stamped=BASE + 10**9)
    h.run()
    assert (h.routed.counted, h.routed.dead) == (1, 1)
    origin = from_headers(h.records("dead-letters")[0].headers())
    assert (origin.reason, origin.element, origin.timestamp) == (Reason.TIMESTAMP, 1, BASE + 10**9)
    assert origin.detail == "the event's time is 1001 ms ahead of the clock"


@pytest.mark.parametrize(
    ("found", "says"), [([1.5], "epoch milliseconds, not 1.5"), ([True], "not True"), ([], "each of 1 elements, not 0")]
)
def test_times_that_are_none_are_a_mistake_of_the_job(found: list[Any], says: str) -> None:
    h = Harness(pages(times=lambda views, timestamps: found), now_ms=BASE)
    send(h, 0)
    with pytest.raises(EngineError, match=says):
        h.run()
