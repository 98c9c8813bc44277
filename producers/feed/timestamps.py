"""The time of what a feed sends, which carries none: when it was received, put so that its order holds. Pure."""

from __future__ import annotations


class Timestamps:
    """Gives records their timestamps, in epoch milliseconds.

    The links job lets a relation count for the events from its timestamp on. A relation list has to count for what
    is received after it, and not for what was received before, also within one millisecond and where the clock is
    set back: it gets a time after every earlier communication's, and no later communication gets an earlier one.
    """

    def __init__(self) -> None:
        self._relations = 0
        self._communication = -1

    def relations(self, now: int) -> int:
        """The timestamp of a relation list received at `now`."""
        self._relations = max(now, self._communication + 1, self._relations)
        return self._relations

    def communications(self, now: int) -> int:
        """The timestamp of communications received at `now`."""
        timestamp = max(now, self._relations)
        self._communication = max(self._communication, timestamp)
        return timestamp
