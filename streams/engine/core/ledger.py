"""The ledger: every accepted event ends in exactly one of counted, late, dead.

Each figure is kept with the committed offset of the task that produces it, so it is as exact as the effects are, and
can be read at any time from the group's committed offsets.
"""

from __future__ import annotations

import msgspec


class Routed(msgspec.Struct, array_like=True):
    """Counts of what stage one did with the events of its partition since the beginning."""

    counted: int = 0
    late: int = 0
    dead: int = 0

    @property
    def accepted(self) -> int:
        """The number of all events: counted, late and dead."""
        return self.counted + self.late + self.dead

    def __add__(self, other: Routed) -> Routed:
        return Routed(self.counted + other.counted, self.late + other.late, self.dead + other.dead)


class Ledger(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a job is: nothing is under way where `merged` equals `counted`.

    `accepted` = `counted` + `late` + `dead` is what stage one has routed; `merged` is what stage two has added up, the
    sum of all cells ever written. `behind` is what of each topic is not processed yet: of the source how many offsets
    there are from the first such record on, whatever control records (KIP-98) follow the committed offset; of a topic
    between two stages how many events. `dropped`: keys that a job with a capacity has dropped since the beginning, for
    want of room; None of other jobs.
    """

    accepted: int
    counted: int
    late: int
    dead: int
    merged: int
    behind: dict[str, int]
    dropped: int | None = None
