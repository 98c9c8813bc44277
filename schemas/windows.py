"""Windows of event time as messages name them, and that a partition has closed one."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from functools import lru_cache

import msgspec

from weir.schemas.times import from_rfc3339, to_rfc3339

#: The largest count: what a signed 64-bit number holds, in Postgres too.
MAX_COUNT = 2**63 - 1
#: More partitions than any topic has: a number beyond it is no partition.
MAX_PARTITIONS = 1 << 16


class Window(msgspec.Struct, frozen=True, gc=False):
    """A window of event time, from `start` (inclusive) to `end` (exclusive), RFC 3339 in UTC."""

    start: str
    end: str


class WindowClosed(msgspec.Struct, frozen=True, gc=False):
    """One partition of `link-counts` has closed one window. Topic `link-windows`, written with the window's last cells.

    `cells` is how many final counts that partition holds for the window (0 for an empty one): a reader has the
    window whole once it has heard this from all `partitions`, and has read that many final counts of each.
    """

    window: Window
    partition: int
    partitions: int
    cells: int


def is_complete(partitions: int, closings: Mapping[int, int], counts: Mapping[int, Sized]) -> bool:
    """Tells whether a window is complete: all of its `partitions` have closed it, and each has as many final `counts`
    as its closing said. `partitions` is 0 while no closing was read.

    >>> is_complete(2, {0: 1, 1: 0}, {0: {"a"}}), is_complete(2, {0: 1, 1: 0}, {}), is_complete(2, {0: 1}, {0: {"a"}})
    (True, False, False)
    """
    return len(closings) == partitions > 0 and all(
        len(counts.get(partition, ())) >= cells for partition, cells in closings.items()
    )


@lru_cache(maxsize=4096)
def window_bounds(window: Window) -> tuple[int, int]:
    """Start and end in epoch milliseconds. Raises ValueError where they are no times, or not in this order."""
    bounds = []
    for field, text in (("start", window.start), ("end", window.end)):
        try:
            bounds.append(from_rfc3339(text))
            to_rfc3339(bounds[-1])
        except ValueError as e:
            raise ValueError(f"`window.{field}` is not a valid time: {e}") from e
    start, end = bounds
    if end <= start:
        raise ValueError(f"`window.end` {window.end} is not after `window.start` {window.start}")
    return start, end


def check_window_closed(closed: WindowClosed) -> None:
    """Raises ValueError where a time or a number is not acceptable: what the type itself cannot say."""
    window_bounds(closed.window)
    if not 0 <= closed.partition < closed.partitions <= MAX_PARTITIONS:
        raise ValueError(
            f"`partition` is {closed.partition} of {closed.partitions}, 0 to {MAX_PARTITIONS - 1} are allowed"
        )
    if not 0 <= closed.cells <= MAX_COUNT:
        raise ValueError(f"`cells` is {closed.cells}, 0 to {MAX_COUNT} are allowed")
