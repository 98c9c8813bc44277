"""The times that a feed's messages get, which keep the order of the messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weir.producers.feed.timestamps import Timestamps

KINDS = st.sampled_from(["relations", "communications"])


def stamp(received: list[tuple[str, int]]) -> list[int]:
    timestamps = Timestamps()
    return [getattr(timestamps, kind)(now) for kind, now in received]


def test_the_time_is_that_of_receipt() -> None:
    assert stamp([("relations", 10), ("communications", 11), ("communications", 15), ("relations", 20)]) == [
        10, 11, 15, 20,
    ]  # fmt: skip


def test_a_relation_in_the_same_millisecond_counts_for_later_events_only() -> None:
    assert stamp(
        [("communications", 10), ("relations", 10), ("communications", 10), ("relations", 10), ("communications", 11)]
    ) == [10, 11, 11, 12, 12]


def test_a_clock_that_is_set_back_does_not_move_events_before_their_relations() -> None:
    assert stamp([("communications", 100), ("relations", 40), ("communications", 41), ("communications", 102)]) == [
        100, 101, 101, 102,
    ]  # fmt: skip


@given(st.lists(st.tuples(KINDS, st.integers(0, 50)), max_size=60))
def test_relations_come_after_what_was_before_them_and_not_after_what_follows(received: list[tuple[str, int]]) -> None:
    stamped = [(kind, timestamp) for (kind, _), timestamp in zip(received, stamp(received), strict=True)]
    for place, (kind, timestamp) in enumerate(stamped):
        if kind == "relations":
            assert all(t < timestamp for k, t in stamped[:place] if k == "communications")
            assert all(t >= timestamp for _, t in stamped[place:])


@given(st.lists(st.tuples(KINDS, st.integers(0, 50)), max_size=60))
def test_no_time_is_earlier_than_receipt(received: list[tuple[str, int]]) -> None:
    assert all(timestamp >= now for (_, now), timestamp in zip(received, stamp(received), strict=True))
