"""How large states become: not beyond what their aggregate says; a job whose topics would not take them is none."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import datasketches
import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine.page_views import CHANGELOG, PAGES, PARTIALS, pages
from unit.streams.engine.aggregates.test_aggregates import BELOW, VALUES
from weir.schemas.topic import MAX_DEAD_LETTER, Topic
from weir.streams.api import Aggregate, Avg, Count, Distinct, Emit, Max, Min, Quantiles, Sum
from weir.streams.engine.aggregates.aggregation import Several
from weir.streams.engine.aggregates.partials import ROOM
from weir.streams.engine.core.records import FRAME
from weir.streams.engine.windowed.spec import MAX_GROUP_KEY

EXACT: list[Any] = [Count(), Sum("x"), Avg("x"), Min("x"), Max("x")]
#: Sums with as many parts as there can be: every 53rd bit apart, from the least float there is to the greatest allowed.
FAR_APART = [2.0**exponent for exponent in range(-1074, 332, 54)]


def size(aggregate: Aggregate, state: Any) -> int:
    return len(msgspec.msgpack.encode(aggregate.dump(state)))


@settings(max_examples=300, deadline=None)
@given(VALUES, st.integers(1, 10**12))
def test_no_state_of_exact_aggregates_is_larger_than_they_say(values: list[Any], times: int) -> None:
    for aggregate in EXACT:
        assert size(aggregate, aggregate.fold(None, values)) <= aggregate.size
        assert size(aggregate, aggregate.fold(None, [value * 0 + times for value in values])) <= aggregate.size


def test_not_even_of_the_longest_numbers() -> None:
    for sign in (1, -1):
        long = Decimal("-" * (sign < 0) + "9" * 100 + "." + "9" * 100)
        numbers = [long, sign * (10**100 - 1), *(sign * number for number in [*FAR_APART, BELOW])]
        for aggregate in EXACT:
            state = aggregate.fold(None, numbers)
            for _ in range(50):  # 2 ** 50 times as many
                state = aggregate.merge(state, aggregate.load(aggregate.dump(state)))
            assert size(aggregate, state) <= aggregate.size
    total = Sum("x").fold(None, FAR_APART)
    assert len(total.floats or ()) == len(FAR_APART), "they really are far apart"


def test_no_sketch_of_different_values_is_larger_than_it_says() -> None:
    for lg_k in range(7, 22):
        library = datasketches.hll_sketch.get_max_updatable_serialization_bytes(lg_k, datasketches.HLL_4)
        assert library < Distinct("x", lg_k).size
    for lg_k in (7, 10, 14):
        distinct = Distinct("x", lg_k)
        assert size(distinct, distinct.fold(None, range(8 << lg_k))) <= distinct.size


def test_nor_one_of_values_that_are_made_for_it() -> None:
    """Registers far beyond the least stand in a list of their own, 4 bytes each: here all but one."""
    lg_k, head, zeros_at = 7, 40, 32
    distinct = Distinct("x", lg_k)
    sketch = datasketches.hll_sketch(lg_k, datasketches.HLL_8)  # has its registers as bytes
    for n in range(16 << lg_k):
        sketch.update(n)
    raw = bytearray(sketch.serialize_compact())
    raw[head:] = bytes([0] + [40] * ((1 << lg_k) - 1))
    raw[zeros_at : zeros_at + 4] = (1).to_bytes(4, "little")
    made = distinct.merge(distinct.load(bytes(raw)), distinct.load(bytes(raw)))
    assert 4 << lg_k < size(distinct, made) <= distinct.size


@pytest.mark.parametrize("k", [8, 200, 280, 4096, 65535])
@pytest.mark.parametrize("number", [1, 1000, 3_000_000])
def test_no_quantiles_are_larger_than_they_say(k: int, number: int) -> None:
    quantiles = Quantiles("x", k=k)
    state = quantiles.fold(None, [1.0])
    state.update(numpy.arange(number, dtype=numpy.float64))
    for _ in range(20):
        state = quantiles.merge(state, quantiles.load(quantiles.dump(state)))
        assert size(quantiles, state) <= quantiles.size


@pytest.mark.parametrize(
    ("aggregates", "plain"),
    [
        ({"a": Sum("x")}, [1 << 40, [None, [0.1] * 70, None]]),
        ({str(n): Sum("x") for n in range(9)}, [1 << 40, *[[None, [0.1] * 70, None]] * 9]),
        ({"a": Distinct("x"), "b": Sum("x"), "c": Avg("x")}, [1 << 40, b"x" * 499, *[[None, [0.1] * 70, None]] * 2]),
        ({"a": Distinct("x"), "b": Quantiles("x")}, [1 << 40, b"x" * 9000, b"x" * 10_999]),
    ],
)  # fmt: skip
def test_as_many_cells_as_a_partial_holds_fit_its_topic(aggregates: dict[str, Aggregate], plain: list[Any]) -> None:
    cell = len(msgspec.msgpack.encode(plain)) + 4 * MAX_GROUP_KEY + 8
    assert ROOM // Several(aggregates).weight(plain) * cell < MAX_DEAD_LETTER - FRAME


TOO_LARGE: list[dict[str, Aggregate]] = [{"users": Distinct("user", 18)}, {"quantiles": Quantiles("worth", k=43_000)}]
LARGE: list[dict[str, Aggregate]] = [{"users": Distinct("user", 17)}, {"quantiles": Quantiles("worth", k=42_500)}]


def with_room(topic: Topic, room: int = MAX_DEAD_LETTER) -> Topic:
    return dataclasses.replace(topic, config={"max.message.bytes": str(room)})


@pytest.mark.parametrize("aggregates", TOO_LARGE)
def test_a_job_whose_state_a_topic_may_not_take_is_refused(aggregates: dict[str, Aggregate]) -> None:
    partials = with_room(PARTIALS)
    with pytest.raises(ValueError, match="topic page-partials takes 1048576"):
        pages(aggregates=aggregates)
    with pytest.raises(ValueError, match="topic pages takes 1048576"):
        pages(aggregates=aggregates, partials=partials)
    with pytest.raises(ValueError, match="topic pages-changelog takes 1048576"):
        pages(aggregates=aggregates, partials=partials, emit=Emit.CLOSED)
    dataclasses.replace(pages(), aggregates=aggregates, partials=partials, changelog=with_room(CHANGELOG))
    pages(aggregates=aggregates, partials=partials, output=with_room(PAGES))


@pytest.mark.parametrize("aggregates", LARGE)
def test_a_job_whose_state_just_fits_is_one(aggregates: dict[str, Aggregate]) -> None:
    pages(aggregates=aggregates)


def test_no_topic_takes_more_than_can_be_written() -> None:
    aggregates = {"a": Distinct("user", 21), "b": Distinct("user", 21)}
    topics = {"partials": PARTIALS, "output": PAGES}
    with pytest.raises(ValueError, match=f"takes {MAX_DEAD_LETTER}: "):
        pages(aggregates=aggregates, **{name: with_room(topic, 1 << 30) for name, topic in topics.items()})
