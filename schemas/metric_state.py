"""The state of a cell of metrics: what a `metric-aggregates` record carries in its header, for whoever merges minutes.

MessagePack arrays, as the engine writes the state of any windowed job. The sketches are Apache DataSketches' own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError

#: The name of the header.
STATE = "weir-state"


class MetricCell(msgspec.Struct, array_like=True, frozen=True):
    """Mergeable state of the events of one type in one minute.

    `sum` is (None, its parts, None), and `avg` (count, None, the same parts, None): floats whose real sum is the exact
    sum, largest first, none for 0. `quantiles` is a `kll_doubles_sketch`, `users` an `hll_sketch`.
    """

    events: int
    count: int
    sum: tuple[None, tuple[float, ...], None]
    avg: tuple[int, None, tuple[float, ...], None]
    min: float
    max: float
    quantiles: bytes
    users: bytes


class MetricState(msgspec.Struct, array_like=True, frozen=True):
    """A cell with its window, `start` to `end` in epoch milliseconds, and its key, the event type alone."""

    start: int
    end: int
    key: tuple[str]
    cell: MetricCell


_read = msgspec.msgpack.Decoder(MetricState).decode


def state_of(headers: Iterable[tuple[str, object]] | None) -> MetricState:
    """Returns the state in the headers of a `metric-aggregates` record. Raises PoisonError if the header is missing or
    wrong.
    """
    found = dict(headers or ()).get(STATE)
    if not isinstance(found, bytes):
        raise PoisonError(Reason.INVALID, f"the record has no header {STATE}")
    try:
        return _read(found)
    except BAD_INPUT as e:
        raise PoisonError(Reason.INVALID, f"the header {STATE} cannot be read: {poison(e).detail}") from e
