"""What a windowed job is: everything the two stages need to know, as data and functions without I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.codec import Decoder
from schemas.topics import Topic
from streams.engine.partials import Key
from streams.engine.records import Record
from streams.engine.windows import TumblingWindows


class View(Protocol):
    """A topic that every worker holds whole (Kafka Streams: global table), read before the source is processed.

    `apply` is called from the thread that reads; what the job's `key` asks meanwhile must stay consistent.
    """

    topic: Topic

    def apply(self, records: Sequence[Record]) -> None:
        """Takes records in offset order. One that is not acceptable is passed over: its own stage refuses it."""


@dataclass(frozen=True)
class WindowedCount:
    """Counts events per key and window, exactly once.

    `keys` gives the keys of elements at their timestamps (epoch ms), or raises `PoisonError` where one has none. `cell`
    makes key and value of the output record for (window start, key, count, final), and `read_cell` turns one back:
    the output topic is the changelog that state is restored from. `closed` makes key and value of the record on topic
    `closings` that says that a partition of the output has closed a window: (window start, partition, partitions,
    cells). `linger` (ms) is the longest time between two transactions of a partition under load.
    """

    name: str
    source: Topic
    partials: Topic
    output: Topic
    closings: Topic
    decoder: Decoder[Any]
    keys: Callable[[Sequence[Any], Sequence[int]], list[Key]]
    windows: TumblingWindows
    max_skew: int
    cell: Callable[[int, Key, int, bool], tuple[bytes, bytes]]
    read_cell: Callable[[Record], tuple[int, Key, int]]
    closed: Callable[[int, int, int, int], tuple[bytes, bytes]]
    view: View | None = None
    linger: int = 200
