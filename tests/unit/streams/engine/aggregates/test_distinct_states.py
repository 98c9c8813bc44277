"""The states of `Distinct`: what is merged, dumped, loaded and asked meanwhile changes nothing of what is said."""

from __future__ import annotations

from typing import Any

import datasketches
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine.page_views import pages
from weir.streams.api import Count, Distinct
from weir.streams.engine.aggregates.aggregation import Several
from weir.streams.engine.aggregates.sketches import Merged
from weir.streams.testing import Harness

BASE = 1_750_000_020_000


def library_dump(state: Merged) -> bytes:
    plain: bytes = state.union.get_result(datasketches.HLL_4).serialize_compact()
    return plain


def parts(plain: bytes, lg_k: int) -> tuple[bytes, bytes, bytes, list[bytes]]:
    """Returns the parts of a state that must be equal: without the fourth byte, the capacity of the list at the end,
    and the order of that list.
    """
    end = 40 + (1 << lg_k) // 2
    return plain[:4], plain[5:40], plain[40:end], sorted(plain[at : at + 4] for at in range(end, len(plain), 4))


@pytest.mark.parametrize("lg_k", [7, 8, 12, 14])
@pytest.mark.parametrize("number", [1, 10, 100, 1000, 10_000, 100_000])
def test_a_merged_state_is_dumped_as_the_library_would(lg_k: int, number: int) -> None:
    distinct = Distinct("x", lg_k)
    state = distinct.merge(distinct.fold(None, range(number)), distinct.fold(None, range(number // 2, 2 * number)))
    own, library = distinct.dump(state), library_dump(state)
    assert parts(own, lg_k) == parts(library, lg_k)
    again = distinct.load(own)
    assert again.get_estimate() == distinct.load(library).get_estimate()
    assert distinct.result(again) == distinct.result(state)


@pytest.mark.parametrize("number", [3, 50_000, 1_000_000])
def test_no_register_is_as_low_as_none_at_all_or_far_beyond_the_others(number: int) -> None:
    """At 1 000 000 the least of 128 registers is far from 0; at 3 there are no registers yet."""
    distinct = Distinct("x", 7)
    state = distinct.merge(distinct.fold(None, range(number)), distinct.fold(None, [-1]))
    least = distinct.dump(state)[6]
    assert (least > 5) == (number > 3)
    assert distinct.result(distinct.load(distinct.dump(state))) == distinct.result(state)


step = st.one_of(
    st.tuples(st.just("fold"), st.integers(0, 3000), st.integers(1, 400)),
    st.sampled_from([("merge",), ("merge",), ("dump",), ("load",), ("result",), ("settle",), ("turn",)]),
)


@pytest.mark.parametrize("lg_k", [7, 10])
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(step, max_size=40))
def test_what_is_said_depends_on_the_values_alone(lg_k: int, steps: list[Any]) -> None:
    distinct = Distinct("x", lg_k)
    states: list[Any] = []
    values: list[set[int]] = []
    for name, *rest in steps:
        if name == "fold":
            first, number = rest
            states.append(distinct.fold(None, range(first, first + number)))
            values.append(set(range(first, first + number)))
            continue
        if name == "merge" and len(states) > 1:
            b, a = states.pop(), states.pop()
            before = distinct.dump(b)
            states.append(distinct.merge(a, b))
            assert distinct.dump(b) == before
            values.append(values.pop() | values.pop())
        elif name in ("load", "settle") and states:
            states[-1] = distinct.load(distinct.dump(states[-1]))
        elif name == "dump" and states:
            distinct.dump(states[-1])
        elif name == "result" and states:
            distinct.result(states[-1])
        elif name == "turn":
            states.reverse()
            values.reverse()
    for state, own in zip(states, values, strict=True):
        expected = distinct.result(distinct.fold(None, sorted(own)))
        assert distinct.result(state) == distinct.result(state) == expected
        assert distinct.result(distinct.load(distinct.dump(state))) == expected
        more = distinct.fold(state, range(5000, 5100))
        assert distinct.result(more) == distinct.result(distinct.fold(None, [*own, *range(5000, 5100)]))


def test_texts_are_folded_into_what_was_merged() -> None:
    distinct = Distinct("x")
    state = distinct.merge(distinct.fold(None, ["a", ""]), distinct.fold(None, [b"a", 2**70]))
    assert distinct.result(distinct.fold(state, ["b", "", 2**70, b"b", 1])) == 7


@pytest.mark.parametrize("kind", ["tumbling", "session"])
def test_what_is_closed_takes_no_more_room_than_it_must_and_can_still_be_revised(kind: str) -> None:
    h = Harness(pages(kind, aggregates={"users": Distinct("user"), "views": Count()}), 1, now_ms=BASE)

    def count(at: int, first: int, number: int) -> None:
        users = range(first, first + number)
        h.send("views", [{"page": "home", "user": f"u{n}", "worth": 1.0} for n in users], BASE + at)
        h.run()

    def states() -> list[Any]:
        stage: Any = h.stage("page-partials", 0)
        if kind == "session":
            return [session.state[1] for session in stage._sessions["home",]]
        return [stage._table.cells(start)["home",][1] for start in sorted(stage._table.windows())]

    count(0, 0, 2000)
    count(1000, 2000, 2000)
    assert isinstance(states()[0], Merged)
    count(90_000, 0, 10)
    assert not isinstance(states()[0], Merged)
    count(2000, 3000, 2000)  # late
    assert not isinstance(states()[0], Merged)
    latest = sorted(h.latest("pages").values(), key=lambda value: value["window"]["start"])[0]
    exact = Distinct("user")
    assert (latest["users"], latest["views"]) == (exact.result(exact.fold(None, [f"u{n}" for n in range(5000)])), 6000)
    h.crash()
    count(3000, 0, 1)
    latest = sorted(h.latest("pages").values(), key=lambda value: value["window"]["start"])[0]
    assert latest["views"] == 6001


def test_only_what_can_take_less_room_is_settled() -> None:
    assert Several({"views": Count()}).settle is None
