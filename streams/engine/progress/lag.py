"""How far a job is: per partition the committed offset, the next record after it, and the end, asked of the broker.

Between the committed offset and the end there may be nothing but control records (KIP-98) and aborted transactions. So
where the two are near each other the next record is looked for. The ledger, `weir trim` and `GET /tables` all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from weir.infra.config import Config
from weir.infra.kafka.partition_reader import END, FIRST, Bound, PartitionOffsets
from weir.infra.kafka.unread import FEW, Unread
from weir.infra.runtime.single_flight import SingleFlight
from weir.infra.runtime.threads import in_daemon
from weir.streams.engine.progress.offsets import TIMEOUT_S, Group, answer

#: How old an answer may be, in seconds.
FRESH_S = 1.0

Partition = tuple[str, int]


class PartitionProgress(NamedTuple):
    """How far the group is in one partition. `committed` is its offset, of a partition that has none the log's start;
    `state` the stage's state that was committed with it, None where nothing was. `following` is the offset of the first
    record from `committed` on, `end` (the high watermark) where there is none.
    """

    committed: int
    following: int
    end: int
    state: str | None

    @property
    def behind(self) -> int:
        """How many offsets there are from the next record on."""
        return self.end - self.following


class GroupProgress:
    """The places of a job's group in some of its topics, each with its number of partitions. Used by one thread."""

    def __init__(self, config: Config, group: Group) -> None:
        self._config, self._group = config, group
        self._offsets = PartitionOffsets(config, TIMEOUT_S)
        self._unread = Unread(config)

    def ask(self, topics: Mapping[str, int]) -> dict[Partition, PartitionProgress]:
        """Asks Kafka how far every partition is now. The offsets are asked for topic by topic in the order given, the
        ends after all of them. Raises WeirError where Kafka does not answer.
        """
        committed: dict[Partition, tuple[int, str | None]] = {}
        for topic, partitions in topics.items():
            known = self._group.committed(topic, partitions)
            for p in range(partitions):
                mine = known.get(p)
                committed[topic, p] = (mine.offset, mine.state) if mine else (self._group.ends(topic, p)[0], None)
        ends = self._ask(END, list(committed))
        following = self._unread.following({own: at for own, (at, _) in committed.items()}, ends)
        far = [own for own, (at, _) in committed.items() if ends[own] > at + FEW]
        following |= {own: max(committed[own][0], first) for own, first in self._ask(FIRST, far).items()}
        return {
            own: PartitionProgress(at, min(following[own], max(at, ends[own])), max(at, ends[own]), state)
            for own, (at, state) in committed.items()
        }

    def _ask(self, bound: Bound, partitions: list[Partition]) -> dict[Partition, int]:
        [found] = answer(self._config, lambda: self._offsets.ask({bound: partitions}))
        return found


class CachedProgress:
    """The places of a job's group, kept for a second; asked from one event loop."""

    def __init__(self, config: Config, job: str, topics: Mapping[str, int]) -> None:
        places = GroupProgress(config, Group(config, job))
        self._places = SingleFlight(lambda: in_daemon(lambda: places.ask(topics)))

    async def places(self) -> Mapping[Partition, PartitionProgress]:
        """Returns how far each partition is, a second ago at most. Raises WeirError where Kafka does not answer."""
        return await self._places.get(FRESH_S)
