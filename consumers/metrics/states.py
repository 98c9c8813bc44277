"""Cells of metrics: what the events of one type in a span of time come to, such that spans can be merged. Pure.

Counts, sums, least and greatest are exact, whatever the order of merging. The sketches are kept as Apache
DataSketches' own bytes: they are shared and never changed, and what they take is what they say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from weir.schemas.aggregates import Total, expansion, library, union_bytes, union_of
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.metrics import RANKS, MetricAggregate, MetricState
from weir.schemas.windows import window_bounds

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
    """Figures of one event type. `avg` and `sum` are rounded once; the quantiles and `users` are estimates."""

    count: int
    sum: float
    avg: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    users: int


def read(aggregate: MetricAggregate, state: MetricState) -> tuple[int, Cell]:
    """The minute (since 1970) of a record, and its cell. Raises PoisonError where the two do not belong together."""
    start, end = window_bounds(aggregate.window)
    if (start, end, aggregate.event_type) != (state.start, state.end, state.key[0]):
        raise PoisonError(Reason.INVALID, "the header's window or type is not the value's")
    if start % MINUTE or end != start + MINUTE:
        raise PoisonError(Reason.INVALID, f"the window from {aggregate.window.start} is not a minute")
    cell = state.cell
    try:
        values = library().kll_doubles_sketch.deserialize(cell.quantiles).n
        library().hll_sketch.deserialize(cell.users)
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
    serialized = union_bytes(users) if small else users.get_result(library().HLL_8).serialize_compact()
    return scalars(cells, quantiles.serialize(), serialized)


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
    return msgspec.structs.replace(cell, users=union_bytes(_sketches([cell, other])[1]))


def figures(cells: Sequence[Cell]) -> Figures:
    """Returns the figures of several cells, of which at least one has sketches."""
    quantiles, users = _sketches(cells)
    total = scalars(cells)
    exact = Total(None, total.parts, None)
    p50, p95, p99 = (quantile + 0.0 for quantile in quantiles.get_quantiles(RANKS, inclusive=True))  # no -0.0
    return Figures(
        total.count,
        float(exact.rounded()),
        float(exact.divided(total.count)),
        total.least,
        total.greatest,
        p50,
        p95,
        p99,
        round(users.get_estimate()),
    )


def _sketches(cells: Sequence[Cell]) -> tuple[Any, Any]:
    """The quantiles of cells, and the union of their users."""
    sketches = library()
    first, *rest = [cell for cell in cells if cell.users]
    quantiles = sketches.kll_doubles_sketch.deserialize(first.quantiles)
    sketch = sketches.hll_sketch.deserialize(first.users)
    users = union_of(sketch)
    if not rest:  # one that was merged, if only with itself, gives what the engine gives for the same users
        users.update(sketch)
    for cell in rest:
        quantiles.merge(sketches.kll_doubles_sketch.deserialize(cell.quantiles))
        users.update(sketches.hll_sketch.deserialize(cell.users))
    return quantiles, users
