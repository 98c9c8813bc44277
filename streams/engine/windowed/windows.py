"""Windows of event time, and when they close and are forgotten. All times are epoch milliseconds.

        end of window      end + grace                      end + retention
──┬──────────┬───────────────┬────────────────────────────────┬────────▶ event time
  │  window  │  late events  │  closed: final counts written, │ late events no
  │          │  still count  │  late events revise them       │ longer count
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from weir.infra.config.settings import duration_text


class Windows(Protocol):
    """Windows aligned to the epoch: the same for every key, which `aligned` says (True).

    Events are counted per pane, the largest span that windows never cut in two (Li et al., No pane, no gain, 2005); a
    window's aggregate is that of its panes.
    """

    aligned: ClassVar[bool]

    @property
    def size(self) -> int:
        """How long a window is."""

    @property
    def advance(self) -> int:
        """How much later the next window starts."""

    @property
    def pane(self) -> int:
        """How long a pane is; panes are aligned to the epoch."""

    @property
    def grace(self) -> int: ...
    @property
    def retention(self) -> int: ...

    def starts(self, pane: int) -> Sequence[int]:
        """The starts of the windows that the pane starting at `pane` belongs to."""

    def open_from(self, watermark: int) -> int:
        """The start of the earliest window that is open at `watermark`: its end plus grace has not been passed."""

    def late_before(self, watermark: int) -> int:
        """An event older than this is late for a partition whose watermark this is."""

    @property
    def description(self) -> str:
        """The windows in words."""


@dataclass(frozen=True)
class TumblingWindows:
    """Windows [start, start + size), each event in exactly one.

    `grace`: how long after its end a window stays open. `retention`: how far behind the latest an event may be and
    still count, and so how long a window is kept after its end. Raises ValueError for what is no window.
    """

    aligned: ClassVar[bool] = True
    size: int
    grace: int
    retention: int

    def __post_init__(self) -> None:
        _check(self.size, self.grace, self.retention)

    @property
    def advance(self) -> int:
        return self.size

    @property
    def pane(self) -> int:
        return self.size

    def starts(self, pane: int) -> Sequence[int]:
        return (pane,)

    def open_from(self, watermark: int) -> int:
        """
        >>> w = TumblingWindows(60_000, 5_000, 600_000)
        >>> w.open_from(124_999), w.open_from(125_000)
        (60000, 120000)
        """
        return _aligned(watermark - self.grace, self.size)

    def late_before(self, watermark: int) -> int:
        return watermark - self.retention

    @property
    def description(self) -> str:
        return f"window of {duration_text(self.size)}"


@dataclass(frozen=True)
class HoppingWindows:
    """Windows [start, start + size), one starting every `advance` ≤ size: each event in size / advance of them.

    The rest is as in `TumblingWindows`.
    """

    aligned: ClassVar[bool] = True
    size: int
    advance: int
    grace: int
    retention: int

    def __post_init__(self) -> None:
        _check(self.size, self.grace, self.retention)
        if not isinstance(self.advance, int) or not 0 < self.advance <= self.size:
            raise ValueError(
                f"windows of {self.size} ms cannot start every {self.advance} ms: `advance` must be an int from 1 to "
                f"`size`"
            )

    @property
    def pane(self) -> int:
        return math.gcd(self.size, self.advance)

    def starts(self, pane: int) -> Sequence[int]:
        """
        >>> HoppingWindows(60_000, 20_000, 0, 0).starts(120_000)
        range(80000, 120001, 20000)
        """
        last = _aligned(pane, self.advance)
        first = _aligned(pane + self.pane - self.size + self.advance - 1, self.advance)
        return range(max(first, 0), last + 1, self.advance)

    def open_from(self, watermark: int) -> int:
        """
        >>> w = HoppingWindows(60_000, 20_000, 5_000, 600_000)
        >>> w.open_from(124_999), w.open_from(125_000)
        (60000, 80000)
        """
        return _aligned(watermark - self.grace - self.size, self.advance) + self.advance

    def late_before(self, watermark: int) -> int:
        return watermark - self.retention

    @property
    def description(self) -> str:
        return f"window of {duration_text(self.size)} every {duration_text(self.advance)}"


@dataclass(frozen=True)
class SessionWindows:
    """A session per key: events that are at most `gap` apart. It spans its first to its last event, both included.

    The rest is as in `TumblingWindows`.
    """

    aligned: ClassVar[bool] = False
    gap: int
    grace: int
    retention: int

    def __post_init__(self) -> None:
        _check(self.gap, self.grace, self.retention)

    def starts(self, pane: int) -> Sequence[int]:
        """Returns the pane itself: all sessions of a key are in one pane."""
        return (pane,)

    def open_from(self, watermark: int) -> int:
        """A session that ends before this is closed: no event that would prolong it is in grace any more."""
        return watermark - self.grace - self.gap

    def late_before(self, watermark: int) -> int:
        return watermark - self.retention

    @property
    def description(self) -> str:
        return f"session with gaps of {duration_text(self.gap)} at most"


def _check(length: int, grace: int, retention: int) -> None:
    if not all(isinstance(one, int) for one in (length, grace, retention)):
        raise ValueError(
            f"the times of windows must be ints, in milliseconds, not {length!r} long, {grace!r} of grace, "
            f"{retention!r} of retention"
        )
    if length <= 0 or grace < 0 or retention < grace:
        raise ValueError(
            f"windows of {length} ms with {grace} ms of grace and {retention} ms of retention: the length must be "
            f"positive, the grace 0 or more, and the retention no shorter than the grace"
        )


def _aligned(time: int, step: int) -> int:
    return time - time % step
