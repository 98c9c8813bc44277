"""Cells of metrics: what the events of one type in a span of time come to, such that spans can be merged. Pure.

Counts, sums, least and greatest are exact, whatever the order of merging. The sketches are kept as Apache
DataSketches' own bytes: they are shared and never changed, and what they take is what they say.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.links import window_bounds
from schemas.metric_state import MetricState
from schemas.metrics import RANKS, MetricAggregate

MINUTE = 60_000


class Cell(msgspec.Struct, frozen=True, gc=False):
    """`parts` add up to the exact sum. `quantiles` and `users` are both empty where the sketches are elsewhere."""

    count: int
    parts: tuple[float, ...]
    least: float
    greatest: float
    quantiles: bytes
    users: bytes


class Figures(msgspec.Struct, frozen=True, gc=False):
    """What is said of a type. `avg` and `sum` are rounded once; the quantiles and `users` are estimates."""

    count: int
    sum: float
    avg: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    users: int


@cache
def _library() -> Any:
    import datasketches  # type: ignore[import-untyped]  # it imports numpy: 0.2 s, which only who merges pays

    return datasketches


def read(aggregate: MetricAggregate, state: MetricState) -> tuple[int, Cell]:
    """The minute (since 1970) of a record, and its cell. Raises PoisonError where the two do not belong together."""
    start, end = window_bounds(aggregate.window)
    if (start, end, aggregate.event_type) != (state.start, state.end, state.key[0]):
        raise PoisonError(Reason.INVALID, "the header's window or type is not the value's")
    if start % MINUTE or end != start + MINUTE:
        raise PoisonError(Reason.INVALID, f"the window from {aggregate.window.start} is no minute")
    cell = state.cell
    library = _library()
    try:
        values = library.kll_doubles_sketch.deserialize(cell.quantiles).n
        library.hll_sketch.deserialize(cell.users)
    except (ValueError, IndexError, RuntimeError, MemoryError) as e:
        raise PoisonError(Reason.INVALID, f"the header's sketches cannot be read: {e}") from e
    if not cell.count == values == aggregate.count:
        raise PoisonError(Reason.INVALID, f"{aggregate.count} events, of which the header has {cell.count}, {values}")
    return start // MINUTE, Cell(cell.count, cell.sum[1], cell.min, cell.max, cell.quantiles, cell.users)


def merged(cells: Sequence[Cell], small: bool = False) -> Cell:
    """Several cells, at least one with sketches, as one. `small`: in half the bytes, and ten times as long to make."""
    if len(cells) == 1 and not small:
        return cells[0]
    quantiles, users = _sketches(cells)
    library = _library()
    kind = library.HLL_4 if small else library.HLL_8
    return scalars(cells, quantiles.serialize(), users.get_result(kind).serialize_compact())


def scalars(cells: Collection[Cell], quantiles: bytes = b"", users: bytes = b"") -> Cell:
    """Several cells as one, with these sketches instead of theirs."""
    return Cell(
        sum(cell.count for cell in cells),
        expansion(part for cell in cells for part in cell.parts),
        min(cell.least for cell in cells),
        max(cell.greatest for cell in cells),
        quantiles,
        users,
    )


def with_users(cell: Cell, other: Cell) -> Cell:
    """The cell, with the users of another besides its own."""
    users = _sketches([cell, other])[1].get_result(_library().HLL_4)
    return msgspec.structs.replace(cell, users=users.serialize_compact())


def figures(cells: Sequence[Cell]) -> Figures:
    """What is said of several cells, at least one with sketches."""
    quantiles, users = _sketches(cells)
    total = scalars(cells)
    p50, p95, p99 = (quantile + 0.0 for quantile in quantiles.get_quantiles(RANKS, inclusive=True))  # no -0.0
    return Figures(
        total.count,
        total.parts[0] if total.parts else 0.0,
        _divided(total.parts, total.count),
        total.least,
        total.greatest,
        p50,
        p95,
        p99,
        round(users.get_estimate()),
    )


def expansion(values: Iterable[float]) -> tuple[float, ...]:
    """Floats that do not overlap with the same exact sum, largest first: the first is the sum, rounded once.

    >>> expansion([1e16, 1.0, -1e16]), expansion([0.1] * 10)
    ((1.0,), (1.0, 5.551115123125783e-17))
    """
    rest = list(values)
    parts = []
    while part := math.fsum(rest):
        parts.append(part)
        rest.append(-part)
    return tuple(parts)


def _divided(parts: Sequence[float], count: int) -> float:
    """The exact sum by the count, rounded once."""
    ratios = [part.as_integer_ratio() for part in parts]
    denominator = max((d for _, d in ratios), default=1)  # a power of two, as all of them
    return sum(n * (denominator // d) for n, d in ratios) / (denominator * count)


def _sketches(cells: Sequence[Cell]) -> tuple[Any, Any]:
    """The quantiles of cells, and the union of their users."""
    library = _library()
    first, *rest = [cell for cell in cells if cell.users]
    quantiles = library.kll_doubles_sketch.deserialize(first.quantiles)
    sketch = library.hll_sketch.deserialize(first.users)
    users = library.hll_union(sketch.lg_config_k)
    users.update(sketch)
    if not rest:  # one that was merged, if only with itself, gives what the engine gives for the same users
        users.update(sketch)
    for cell in rest:
        quantiles.merge(library.kll_doubles_sketch.deserialize(cell.quantiles))
        users.update(library.hll_sketch.deserialize(cell.users))
    return quantiles, users
