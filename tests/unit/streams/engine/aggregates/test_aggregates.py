"""Aggregates: exact whatever the order and grouping, sketches within their bounds, poison refused."""

from __future__ import annotations

import bisect
import enum
import itertools
import math
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import datasketches
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.schemas.aggregates import LIMIT, PLACES
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.streams.engine.aggregates.aggregates import Aggregate, Avg, Count, Distinct, Max, Min, Quantiles, Sum

MANY = 200_000

BELOW = math.nextafter(1e100, 0)
INTS = st.integers(1 - LIMIT, LIMIT - 1) | st.integers(-3, 3)
FLOATS = st.floats(-BELOW, BELOW) | st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e16, -1e16, 1e99, -1e99, 5e-324, -5e-324])
DECIMALS = st.decimals("-1e99", "1e99", places=PLACES) | st.sampled_from(
    [Decimal(text) for text in ("0", "-0", "0.00", "-0.0", "0E+500", "1", "1.0", "1.00", "0.1", "1E+99", "-1E-100")]
)
MIXED = INTS | FLOATS | DECIMALS
VALUES = st.one_of(*(st.lists(kind, min_size=1, max_size=30) for kind in (INTS, FLOATS, DECIMALS, MIXED)))
EXACT: list[Any] = [Count(), Sum("x"), Avg("x"), Min("x"), Max("x")]


def travelled(aggregate: Aggregate, state: Any) -> Any:
    """The state after a dump, a way through MessagePack, and a load."""
    return aggregate.load(msgspec.msgpack.decode(msgspec.msgpack.encode(aggregate.dump(state))))


def in_pieces(aggregate: Aggregate, values: list[Any], rng: random.Random) -> Any:
    """The state of the values, shuffled, folded in random pieces, which are merged in a random order."""
    values = rng.sample(values, len(values))
    states = []
    while values:
        state = None
        for _ in range(rng.randint(1, 3)):
            size = rng.randint(1, max(1, len(values)))
            piece, values = values[:size], values[size:]
            state = aggregate.fold(state, piece) if piece else state
        states.append(travelled(aggregate, state) if rng.random() < 0.5 else state)
    while len(states) > 1:
        rng.shuffle(states)
        b, a = states.pop(), states.pop()
        before = aggregate.dump(b)
        states.append(aggregate.merge(a, b))
        assert aggregate.dump(b) == before
    return states[0]


def same(a: Any, b: Any) -> bool:
    """Equal, of one type, with the same digits and the same sign of zero."""
    return type(a) is type(b) and repr(a) == repr(b)


def truth(values: list[Any]) -> Fraction:
    return sum((Fraction(value) for value in values), Fraction(0))


@pytest.mark.parametrize("aggregate", EXACT)
@settings(deadline=None)
@given(values=VALUES, rng=st.randoms(use_true_random=False))
def test_any_grouping_in_any_order_gives_the_same(aggregate: Aggregate, values: list[Any], rng: random.Random) -> None:
    whole, pieces = aggregate.fold(None, values), in_pieces(aggregate, values, rng)
    assert same(aggregate.dump(whole), aggregate.dump(pieces))
    assert same(aggregate.result(whole), aggregate.result(pieces))
    assert travelled(aggregate, whole) == whole
    assert same(aggregate.dump(travelled(aggregate, whole)), aggregate.dump(whole))


@settings(deadline=None)
@given(values=VALUES)
def test_a_sum_is_the_true_one_rounded_once(values: list[Any]) -> None:
    result = Sum("x").result(Sum("x").fold(None, values))
    if any(isinstance(value, float) for value in values):
        assert same(result, float(truth(values)))
    else:
        assert isinstance(result, Decimal if any(isinstance(value, Decimal) for value in values) else int)
        assert Fraction(result) == truth(values)


@settings(deadline=None)
@given(values=VALUES)
def test_an_average_is_the_true_one_rounded_once(values: list[Any]) -> None:
    result = Avg("x").result(Avg("x").fold(None, values))
    mean = truth(values) / len(values)
    if isinstance(result, float):
        assert result == float(mean)
    else:
        unit = Fraction(10) ** (result.adjusted() - 33)  # of the last of 34 digits
        assert abs(Fraction(result) - mean) <= unit / 2


@settings(deadline=None)
@given(values=VALUES)
def test_the_least_and_the_greatest_are_what_came(values: list[Any]) -> None:
    for aggregate, best in ((Min("x"), min), (Max("x"), max)):
        result = aggregate.result(aggregate.fold(None, values))
        assert result == best(values)
        assert type(result) in {type(value) for value in values if value == result}


def test_a_tenth_a_thousand_times_is_a_hundred() -> None:
    for tenth, hundred in ((0.1, 100.0), (Decimal("0.1"), Decimal("100.0"))):
        assert same(Sum("x").result(Sum("x").fold(None, [tenth] * 1000)), hundred)
        assert same(Avg("x").result(Avg("x").fold(None, [tenth] * 1000)), tenth)


def test_what_cancels_leaves_what_is_small() -> None:
    values = [1e99, 1.0, 1e-300, -1e99, 5e-324, -1.0]
    assert Sum("x").result(Sum("x").fold(None, values)) == 1e-300
    assert Sum("x").result(Sum("x").fold(None, [1e16, 1.0, -1e16])) == 1.0  # added up in floats it is 0
    assert Sum("x").dump(Sum("x").fold(None, [1e99, -1e99])) == [None, [], None]


def test_an_average_is_not_rounded_twice() -> None:
    values = [450359962737049.6, 1792.0, 1.2610078956637389e17]
    assert float(truth(values)) / 3 != float(truth(values) / 3)
    assert Avg("x").result(Avg("x").fold(None, values)) == float(truth(values) / 3)


def test_a_state_stays_small() -> None:
    rng = random.Random(1)
    state = Sum("x").fold(None, [rng.gauss(0, 1) * 10 ** rng.uniform(-300, 99) for _ in range(20_000)])
    parts = Sum("x").dump(state)[1]
    assert len(parts) <= (1074 + 400) // 53
    assert all(abs(b) <= math.ulp(a) / 2 for a, b in itertools.pairwise(parts))


def test_of_equal_numbers_the_same_is_taken() -> None:
    equals: list[Any] = [Decimal("1.0"), Decimal("1.00"), 1.0, 1, Decimal(1)]
    for aggregate in (Min("x"), Max("x")):
        assert same(aggregate.fold(None, equals), 1)
        assert same(aggregate.fold(None, equals[:3]), 1.0)
        assert same(aggregate.fold(None, equals[:2]), Decimal("1.00"))
        assert same(aggregate.fold(None, [-0.0]), 0.0)
        assert same(aggregate.fold(None, [Decimal("-0.0"), Decimal(0)]), Decimal("0.0"))


def test_kinds_derived_from_a_number_become_that_number() -> None:
    class Level(enum.IntEnum):
        LOW = 1

    class Metres(float):
        pass

    assert same(Sum("x").fold(None, [Level.LOW, Metres(0.5)]), Sum("x").fold(None, [1, 0.5]))
    assert same(Min("x").fold(None, [Level.LOW]), 1)
    assert same(Max("x").fold(None, [Metres(0.5)]), 0.5)


def test_large_ints_travel() -> None:
    values = [2**63, 2**64, -(2**63) - 1, LIMIT - 1]
    for aggregate in (Sum("x"), Avg("x"), Min("x"), Max("x")):
        state = aggregate.fold(None, values)
        assert travelled(aggregate, state) == state


NO_NUMBERS = [
    math.nan, math.inf, -math.inf, True, None, "1", b"1", 1j, [1], LIMIT, -LIMIT, 10**5000, 1e100, -1e100, 1e308,
    Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), Decimal("1E+100"), Decimal("-1E+100"), Decimal("1E-101"),
    Decimal("0E-101"), Decimal("1E+999999999"), Decimal("1E-999999999"), Decimal("1." + "0" * 101),
]  # fmt: skip
NUMBERS: list[Any] = [0, -0.0, 0.1, BELOW, LIMIT - 1, 1 - LIMIT, Decimal("0.10"), Decimal("1E-100"), Decimal("0E+999")]


@pytest.mark.parametrize("aggregate", [Sum("x"), Avg("x"), Min("x"), Max("x"), Quantiles("x")])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_refused_alone_and_among_others(aggregate: Aggregate, value: Any) -> None:
    with pytest.raises(PoisonError) as refused:
        aggregate.check(value)
    assert refused.value.reason is Reason.INVALID
    good = aggregate.fold(None, [1.0])
    before = aggregate.dump(good)
    kind = type(value)(0) if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) else 0.0
    for batch in ([value], [1, value], [kind] * 50 + [value], [value] + [kind] * 50, [1.5] * 20 + [value]):
        with pytest.raises(PoisonError):
            aggregate.fold(good, batch)
    assert aggregate.dump(good) == before


@settings(deadline=None)
@given(values=st.lists(MIXED | st.sampled_from([*NO_NUMBERS, *NUMBERS]), min_size=1, max_size=20))
def test_a_batch_is_refused_exactly_where_one_of_it_would_be(values: list[Any]) -> None:
    def refused(value: Any) -> bool:
        try:
            Sum("x").check(value)
        except PoisonError:
            return True
        return False

    batches = [values, *([value] * 3 for value in values)]
    for batch in batches:
        if any(map(refused, batch)):
            for aggregate in (Sum("x"), Min("x")):
                with pytest.raises(PoisonError):
                    aggregate.fold(None, batch)
        else:
            Sum("x").fold(None, batch)
            Max("x").fold(None, batch)


def test_anything_can_be_counted() -> None:
    Count().check(object())
    assert Count().field is None
    assert Count().fold(2, [None, math.nan, "x"]) == 5


def test_distinct_is_within_its_bound_and_the_same_in_any_order() -> None:
    distinct = Distinct("x")
    assert datasketches.hll_sketch.get_rel_err(True, True, distinct.lg_k, 2) < 0.02
    assert abs(datasketches.hll_sketch.get_rel_err(False, True, distinct.lg_k, 2)) < 0.02
    for count in (1, 20, 1000, 5000, MANY):
        texts = [f"user-{number}" for number in range(count)]
        whole = distinct.result(distinct.fold(None, texts * 2))
        assert abs(whole - count) <= 0.02 * count
        assert distinct.result(distinct.fold(None, texts[::-1])) == whole
        rng = random.Random(count)
        assert distinct.result(in_pieces(distinct, texts + texts[: count // 2], rng)) == whole


@settings(deadline=None)
@given(
    values=st.lists(st.text(max_size=3) | st.integers() | st.binary(max_size=3), min_size=1, max_size=60),
    rng=st.randoms(use_true_random=False),
)
def test_a_few_distinct_values_are_counted_exactly(values: list[Any], rng: random.Random) -> None:
    distinct = Distinct("x")
    assert distinct.result(distinct.fold(None, values)) == len(set(values))
    assert distinct.result(in_pieces(distinct, values, rng)) == len(set(values))


def test_values_of_different_types_are_different() -> None:
    distinct = Distinct("x")
    values: list[Any] = ["", b"", "1", 1, b"1", 2**63, -(2**63), 2**64, 2**64 + 1, "\0", "é"]
    assert distinct.result(distinct.fold(None, values * 2)) == len(values)
    by_kind = [distinct.fold(None, [value for value in values if type(value) is kind]) for kind in (str, int, bytes)]
    assert distinct.result(distinct.merge(distinct.merge(*by_kind[:2]), by_kind[2])) == len(values)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("", "0201070e0308010080166f0a"),
        ("user-1", "0201070e0308010076422c06"),
        ("é", "0201070e030801008cfde005"),
        (7, "0201070e03080100c1e91705"),
        (2**70, "0201070e0308010023005d05"),
        (b"x", "0201070e030801005e431f0f"),
    ],
)
def test_a_value_has_the_same_state_in_every_process_and_version(value: Any, state: str) -> None:
    distinct = Distinct("x")
    assert distinct.dump(distinct.fold(None, [value])).hex() == state


@pytest.mark.parametrize("value", [True, 1.0, None, Decimal(1), ["a"], "\ud800"])
def test_what_is_not_to_be_told_apart_is_refused(value: Any) -> None:
    distinct = Distinct("x")
    state = distinct.fold(None, ["a"])
    before = distinct.dump(state)
    with pytest.raises(PoisonError):
        distinct.check(value)
    for batch in ([value], ["b", value], [1, value], [value, "b"]):
        with pytest.raises(PoisonError):
            distinct.fold(state, batch)
    assert distinct.dump(state) == before


@pytest.mark.parametrize("spread", [lambda r: r.random(), lambda r: r.lognormvariate(0, 3), lambda r: r.randrange(50)])
def test_quantiles_are_within_their_rank_error(spread: Any) -> None:
    rng = random.Random(4)
    values = [spread(rng) for _ in range(MANY)]
    ordered = sorted(values)
    ranks = (0.0, 0.01, 0.25, 0.5, 0.95, 0.99, 1.0)
    quantiles = Quantiles("x", ranks=ranks)
    error = datasketches.kll_doubles_sketch.get_normalized_rank_error(quantiles.k, False)
    assert error < 0.01
    whole = quantiles.fold(None, values)
    for state in (whole, in_pieces(quantiles, values, rng), travelled(quantiles, whole)):
        for rank, quantile in zip(ranks, quantiles.result(state), strict=True):
            low, high = bisect.bisect_left(ordered, quantile) / MANY, bisect.bisect_right(ordered, quantile) / MANY
            # Twice the error at 99 %: a sketch draws random bits, and this must not fail once in a hundred runs.
            assert low - 2 * error <= rank <= high + 2 * error


@settings(deadline=None)
@given(
    values=st.lists(st.integers(-99, 99) | st.floats(-99, 99) | st.just(Decimal("0.5")), min_size=1, max_size=100),
    rng=st.randoms(use_true_random=False),
)
def test_quantiles_of_a_few_are_exact(values: list[Any], rng: random.Random) -> None:
    ranks = (0.99, 0.0, 0.5, 1.0)
    quantiles = Quantiles("x", ranks=ranks)
    ordered = sorted(map(float, values))
    expected = [ordered[max(0, math.ceil(Fraction(rank) * len(values)) - 1)] for rank in ranks]
    state = in_pieces(quantiles, values, rng)
    assert quantiles.result(state) == expected
    assert quantiles.dump(travelled(quantiles, state)) == quantiles.dump(state)


def test_what_a_sketch_cannot_be_is_refused() -> None:
    for wrong in (lambda: Distinct("x", lg_k=3), lambda: Quantiles("x", ranks=()), lambda: Quantiles("x", ranks=(2,))):
        with pytest.raises(ValueError, match="from"):
            wrong()
    with pytest.raises(ValueError, match="k must be from"):
        Quantiles("x", k=1)
