"""Which parent a child belonged to at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import PoisonError
from streams.parents import Parents


def of(*relations: tuple[str, str, int]) -> Parents:
    parents = Parents()
    for relation in relations:
        parents.add(*relation)
    return parents


def test_a_move_counts_from_its_own_timestamp_on() -> None:
    parents = of(("c", "old", 10), ("c", "new", 20))
    assert [parents.at("c", t) for t in (10, 19, 20, 21)] == ["old", "old", "new", "new"]


def test_the_first_known_parent_covers_earlier_events() -> None:
    assert of(("c", "p", 1_000)).at("c", 0) == "p"


def test_relations_may_come_out_of_order() -> None:
    parents = of(("c", "third", 30), ("c", "first", 10), ("c", "second", 20))
    assert [parents.at("c", t) for t in (5, 15, 25, 35)] == ["first", "first", "second", "third"]


def test_of_two_parents_for_one_moment_the_later_said_holds() -> None:
    assert of(("c", "a", 10), ("c", "b", 10)).at("c", 10) == "b"


def test_saying_it_again_changes_nothing_and_keeps_the_child_on_the_fast_path() -> None:
    parents = of(("c", "p", 10), ("c", "p", 20), ("c", "p", 5))
    assert parents.settled == {"c": "p"}


def test_a_child_that_nobody_declared_is_poison() -> None:
    with pytest.raises(PoisonError, match="no relation names the child 'x'"):
        of().at("x", 0)


@given(
    st.lists(st.tuples(st.just("c"), st.sampled_from("abc"), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(-5, 25),
)
def test_the_parent_is_that_of_the_last_relation_at_or_before_the_time(
    relations: list[tuple[str, str, int]], timestamp: int
) -> None:
    by_time = {since: parent for _, parent, since in relations}
    before = [since for since in by_time if since <= timestamp]
    expected = by_time[max(before) if before else min(by_time)]
    assert of(*relations).at("c", timestamp) == expected
