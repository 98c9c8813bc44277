"""Where the next record of a partition is: between an offset and the end there may be none, only control records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

from weir.infra.config import Config
from weir.infra.kafka.partition_reader import PartitionReader
from weir.schemas.topic import PartitionId

#: Of more offsets than this before the end, nobody looks which are records: most of them must be.
FEW = 1000
#: How long the next record of each partition is looked for, in seconds.
PATIENCE_S = 3.0


class Unread:
    """Looks for the next committed records of partitions. Blocks; for one thread at a time.

    Where there was no record up to the end, that is remembered: a partition at rest is read once.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reader: PartitionReader | None = None
        self._empty: dict[PartitionId, tuple[int, int]] = {}

    def following(self, places: Mapping[PartitionId, int], ends: Mapping[PartitionId, int]) -> dict[PartitionId, int]:
        """Finds for each place, given an offset and the place's end (high watermark), the offset of the first record
        from there on; where there is none, the end, or, before an open transaction, the last stable offset.

        The offset itself where more than `FEW` offsets follow, or where the next record was not seen in time.
        """
        near = {p: (at, ends[p]) for p, at in places.items() if at < ends.get(p, 0) <= at + FEW}
        known = {p: span[1] for p, span in self._empty.items() if near.get(p) == span}
        if missing := {p: at for p, (at, _) in near.items() if p not in known}:
            known |= self._look(missing)
        # A look that did not come to the end may see more the next time, the end being the same: a transaction's marker
        # is written a moment before its records are readable.
        self._empty = {p: near[p] for p, found in known.items() if found >= near[p][1]}
        return {p: known.get(p, at) for p, at in places.items()}

    def _look(self, places: Mapping[PartitionId, int]) -> dict[PartitionId, int]:
        if self._reader is None:
            few = {"queued.min.messages": 1, "fetch.message.max.bytes": 1 << 16, "fetch.wait.max.ms": 10}
            # Where the log begins after the offset, the first record that is left is the next one.
            settings = {"auto.offset.reset": "earliest", **few}
            self._reader = PartitionReader(self._config, settings=settings, passing=lambda *_: None)
        self._reader.assign(places)
        found: dict[PartitionId, int] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < len(places) and time.monotonic() < deadline:
            records = self._reader.read(1000, 0.02)
            for place in places.keys() - found:
                if place in records:
                    found[place] = cast(int, records[place][0].offset())
                elif place in self._reader.ended:
                    found[place] = self._reader.ended[place]
        self._reader.assign({})
        return found
