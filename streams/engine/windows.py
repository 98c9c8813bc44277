"""Tumbling windows of event time, and when they close and are forgotten. All times are epoch milliseconds.

        end of window      end + grace                      end + retention
──┬──────────┬───────────────┬────────────────────────────────┬────────▶ event time
  │  window  │  late events  │  closed: final counts written, │ late events no
  │          │  still count  │  late events revise them       │ longer count
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TumblingWindows:
    """Windows [start, start + size) aligned to the epoch, each event in exactly one."""

    size: int
    grace: int
    retention: int

    def start(self, timestamp: int) -> int:
        """The start of the window that an event falls into.

        >>> TumblingWindows(60_000, 5_000, 600_000).start(119_999)
        60000
        """
        return timestamp - timestamp % self.size

    def closed_before(self, watermark: int) -> int:
        """The end of the newest window that is closed at `watermark`: its end plus grace has been passed.

        >>> w = TumblingWindows(60_000, 5_000, 600_000)
        >>> w.closed_before(124_999), w.closed_before(125_000)
        (60000, 120000)
        """
        return self.start(watermark - self.grace)

    def late_before(self, watermark: int) -> int:
        """An event older than this is late for a partition whose watermark this is."""
        return watermark - self.retention
