"""Ways to sum, to estimate quantiles and to count what is different: cost per value, error, size of the state.

python -m benchmarks.aggregates
"""

from __future__ import annotations

import math
import random
import timeit
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import datasketches
import msgspec
import numpy

from weir.streams.engine.aggregates.aggregates import Distinct, Quantiles, Sum

VALUES, ORDERS, TRIALS = 10_000, 200, 20
RNG = random.Random(1)
CENTS = [round(RNG.uniform(0, 1000), 2) for _ in range(VALUES)]


def main() -> None:
    """Prints four tables."""
    print(f"sums of {VALUES} floats: ns a value; different results in {ORDERS} orders")
    for name, way in _sums().items():
        results = {way(RNG.sample(CENTS, VALUES)) for _ in range(ORDERS if name != "Fraction" else 5)}
        print(f"  {name:32} {_ns(lambda way=way: way(CENTS), VALUES):7.0f} {len(results):5}")
    print("quantiles of 1 000 000 log-normal values: ns a value; worst rank error, one sketch / ten merged; bytes")
    values = numpy.random.default_rng(1).lognormal(0, 2, 1_000_000)
    for name, make in _quantiles().items():
        one, ten = _rank_error(values, make, 1), _rank_error(values, make, 10)
        sketch = make()
        ns = _ns(lambda sketch=sketch: sketch.update(values[:VALUES]), VALUES)
        sketch.update(values)
        print(f"  {name:32} {ns:7.0f} {one:8.2%} {ten:8.2%} {len(sketch.serialize()):6}")
    print("different texts: ns a value and bytes dumped, 1 000 / 100 000 of them")
    for name, fold, dump in _distinct():
        print(f"  {name:32}", *(_distinct_line(fold, dump, count) for count in (1000, 100_000)), sep="  ")
    for lg_k in (12, 14):
        errors = sorted(_distinct_errors(Distinct("x", lg_k)))
        rms = math.sqrt(sum(error**2 for error in errors) / len(errors))
        print(f"  Distinct, lg_k {lg_k}: error {rms:.2%} (root mean square), {errors[189]:.2%} (95 of 100)")
    print("18 000 different texts, lg_k 14: us to merge 150 more into them, to estimate, to write")
    for name, ways in _merging().items():
        print(f"  {name:32}", *(f"{_ns(way, 1) / 1000:7.1f}" for way in ways), sep="  ")


def _sums() -> dict[str, Callable[[list[float]], Any]]:
    def decimals(values: list[float]) -> Decimal:
        with localcontext() as context:
            context.prec = 800
            return sum(map(Decimal, values), Decimal(0))

    return {
        "naive": sum,
        "fsum of 500 at a time, added up": lambda v: sum(math.fsum(v[i : i + 500]) for i in range(0, len(v), 500)),
        "Fraction": lambda v: sum(map(Fraction, v), Fraction(0)),
        "Decimal(float), 800 digits": decimals,
        "Shewchuk's loop in Python": _shewchuk,
        "Sum": lambda v: Sum("x").fold(None, v),
    }


def _shewchuk(values: list[float]) -> float:
    parts: list[float] = []
    for x in values:
        kept = []
        for part in parts:
            large, small = (x, part) if abs(x) >= abs(part) else (part, x)
            x = large + small
            if rest := small - (x - large):
                kept.append(rest)
        parts = [*kept, x]
    return math.fsum(parts)


def _quantiles() -> dict[str, Callable[[], Any]]:
    kinds = [("KLL", datasketches.kll_doubles_sketch, k) for k in (200, Quantiles("x").k)]
    kinds += [("t-digest", datasketches.tdigest_double, k) for k in (100, 200)]
    return {f"{name}, k {k}": (lambda kind=kind, k=k: kind(k)) for name, kind, k in kinds}


def _rank_error(values: Any, make: Callable[[], Any], parts: int) -> float:
    """The worst over the ranks 0.01 to 0.99 and TRIALS orders of the values."""
    ordered, worst = numpy.sort(values), 0.0
    ranks = numpy.linspace(0.01, 0.99, 99)
    for trial in range(TRIALS):
        shuffled = numpy.random.default_rng(trial).permutation(values)
        first, *others = sketches = [make() for _ in range(parts)]
        for at, sketch in enumerate(sketches):
            sketch.update(shuffled[at::parts].copy())
        for other in others:
            first.merge(other)
        found = numpy.searchsorted(ordered, [first.get_quantile(float(rank)) for rank in ranks]) / len(ordered)
        worst = max(worst, float(abs(found - ranks).max()))
    return worst


def _distinct() -> Iterator[tuple[str, Callable[[list[str]], Any], Callable[[Any], bytes]]]:
    yield "set", set, lambda state: msgspec.msgpack.encode(list(state))
    for lg_k in (12, 14):
        distinct = Distinct("x", lg_k)
        yield f"Distinct, lg_k {lg_k}", lambda texts, d=distinct: d.fold(None, texts), distinct.dump


def _distinct_line(fold: Callable[[list[str]], Any], dump: Callable[[Any], bytes], count: int) -> str:
    texts = [f"user-{number}" for number in range(count)]
    return f"{_ns(lambda: fold(texts), count):6.0f} {len(dump(fold(texts))):9}"


def _distinct_errors(distinct: Distinct, count: int = 20_000, trials: int = 200) -> Iterator[float]:
    for trial in range(trials):
        state = distinct.fold(None, range(trial * count, (trial + 1) * count))
        yield abs(distinct.result(state) - count) / count


def _merging() -> dict[str, list[Callable[[], object]]]:
    """A large state that is merged into, kept as a sketch of half a byte a register, and as `Distinct` keeps it."""
    distinct = Distinct("x")
    half, more = datasketches.HLL_4, distinct.fold(None, [f"more-{number}" for number in range(150)])
    large = distinct.fold(None, [f"user-{number}" for number in range(18_000)])

    def union(*sketches: Any) -> Any:
        made = datasketches.hll_union(distinct.lg_k)
        for sketch in sketches:
            made.update(sketch)
        return made

    sketch, state = union(large, more).get_result(half), distinct.merge(large, more)
    return {
        "as a sketch": [
            lambda: union(sketch, more).get_result(half),
            lambda: union(sketch, sketch).get_estimate(),
            lambda: sketch.serialize_compact(),
        ],
        "as a union, written by the library": [
            lambda: distinct.merge(state, more),
            lambda: distinct.result(state),
            lambda: state.union.get_result(half).serialize_compact(),
        ],
        "Distinct": [
            lambda: distinct.merge(state, more),
            lambda: distinct.result(state),
            lambda: distinct.dump(state),
        ],
    }


def _ns(way: Callable[[], object], values: int) -> float:
    return min(timeit.repeat(way, number=3, repeat=5)) / 3 / values * 1e9


if __name__ == "__main__":
    main()
