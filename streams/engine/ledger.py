"""The ledger: every accepted event ends in exactly one of counted, late, dead.

Each figure is kept with the committed offset of the task that produces it, so it is as exact as the effects are, and
can be read at any time from the group's committed offsets.
"""

from __future__ import annotations

import msgspec


class Routed(msgspec.Struct, array_like=True):
    """What stage one did with its partition's events, since the beginning."""

    counted: int = 0
    late: int = 0
    dead: int = 0

    @property
    def accepted(self) -> int:
        return self.counted + self.late + self.dead
