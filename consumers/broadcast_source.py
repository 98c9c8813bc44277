"""Topic `broadcast` as a broadcaster reads it: the live end in a thread of its own, and older records on demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.broadcast_log import BroadcastLog, Entry, Wish
from infra import kafka, log
from infra.config import Config
from infra.errors import KafkaUnavailableError, OffsetLostError
from schemas.broadcast import BINARY, FRAME_HEADER
from schemas.topics import BROADCAST

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_POLL = 0.1
#: Records read at once at most; bytes handed over at once, about; how many such batches may wait for the event loop.
_MOST = 2_000
_BATCH = 64 << 10
_AHEAD = 4
#: Of each partition, so many of the latest records are read into memory first, for so many seconds at most.
_BACKLOG = 10_000
_WARM_UP = 3.0
#: How many records of a partition are looked through for the last messages of a channel.
_SCAN = 100_000
_CHUNK = 2 << 20

_log = log.get("broadcaster")

Edges = dict[int, tuple[int, int]]


@dataclass
class Batch:
    """What was read, in order; or from where partitions had to go on because records are lost (`restarts`)."""

    entries: list[Entry] = field(default_factory=list)
    restarts: dict[int, int] = field(default_factory=dict)


def decode(message: Message) -> Entry:
    """A record as a message. A text that is not UTF-8, which only other Kafka clients write, is sent as binary."""
    headers = dict(cast(list[tuple[str, Any]], message.headers() or ()))
    data = message.value() or b""
    binary = headers.get(FRAME_HEADER) == BINARY or not _is_text(data)
    key = message.key()
    return Entry(
        cast(int, message.partition()),
        cast(int, message.offset()),
        None if key is None else key.decode(errors="replace"),
        data,
        binary,
        message.timestamp()[1],
    )


def _is_text(data: Any) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Reader:
    """A consumer that assigns its partitions itself, and where it is in each."""

    def __init__(self, config: Config, kilobytes: int, wait_ms: int = 500) -> None:
        self._topic = config.topic(BROADCAST.name)
        self._consumer: Consumer = kafka.consumer(
            config,
            None,
            **{
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": kilobytes,
                "fetch.wait.max.ms": wait_ms,
            },
        )
        self.positions: dict[int, int] = {}
        self.at_end: set[int] = set()

    def edges(self) -> Edges:
        """The first offset and the end of every partition. Blocks; raises KafkaUnavailableError."""
        with kafka.translated():
            topic = self._consumer.list_topics(self._topic, timeout=_PATIENCE).topics[self._topic]
            if topic.error is not None:
                raise KafkaException(topic.error)
            found = {}
            for partition in topic.partitions:
                place = TopicPartition(self._topic, partition)
                low, high = self._consumer.get_watermark_offsets(place, timeout=_PATIENCE)
                found[partition] = (low, high)
            return found

    def assign(self, positions: Mapping[int, int]) -> None:
        """Reads from these offsets on, these partitions alone."""
        self.positions = dict(positions)
        self.at_end = set()
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in positions.items()])

    def read(self, timeout: float, most: int) -> tuple[list[Entry], list[int]]:
        """What comes within `timeout` seconds, without waiting for more once there is something; and the partitions
        whose records were deleted before they were read. Raises WeirError."""
        entries: list[Entry] = []
        lost: list[int] = []
        first = self._consumer.poll(timeout)
        if first is None:
            return entries, lost
        for message in (first, *self._consumer.consume(most - 1, timeout=0)):
            error = message.error()
            partition = cast(int, message.partition())
            if error is None:
                entries.append(decode(message))
                self.positions[partition] = entries[-1].offset + 1
                self.at_end.discard(partition)
            elif error.code() == KafkaError._PARTITION_EOF:
                # Where the end was when this was said; between the last record and it there may be markers.
                self.positions[partition] = max(self.positions.get(partition, 0), cast(int, message.offset()))
                self.at_end.add(partition)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                lost.append(partition)
            else:
                problem = kafka.translate(error)
                # A topic that is being made again, or a broker that is away: librdkafka goes on by itself.
                if error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART and not isinstance(problem, KafkaUnavailableError):
                    raise problem
                _log.warning("broadcaster.kafka", error=str(problem))
        return entries, lost

    def close(self) -> None:
        self._consumer.close()


class LiveReader:
    """Reads the end of the topic in a thread, and hands batches to `deliver` on the event loop."""

    def __init__(self, config: Config, deliver: Callable[[Batch], None], failed: Callable[[Exception], None]) -> None:
        self._reader = _Reader(config, 16 << 10)
        self._limit = config.broadcast_memory
        self._deliver = deliver
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broadcast-reader", daemon=True)

    def warm_up(self) -> tuple[dict[int, int], list[Entry], Edges]:
        """Reads the latest records, for those who will resume; from which offsets on, what, and the topic's edges.

        Keeps no more of them than the memory takes. Blocks for a few seconds at most. Raises KafkaUnavailableError.
        """
        edges = self._reader.edges()
        start = {p: max(low, high - _BACKLOG) for p, (low, high) in edges.items()}
        self._reader.assign(start)
        latest = BroadcastLog(start, self._limit)
        deadline = time.monotonic() + _WARM_UP
        while len(self._reader.at_end) < len(edges):
            if time.monotonic() > deadline:
                _log.info("broadcaster.memory_not_filled", seconds=_WARM_UP)
                start = {p: high for p, (_, high) in self._reader.edges().items()}
                self._reader.assign(start)
                return start, [], edges
            read, lost = self._reader.read(_POLL, _MOST)
            latest.append(read)
            if lost:  # trimmed at this moment
                return self.warm_up()
        return dict(latest.first), by_time(latest.after(latest.first)), edges

    def start(self) -> None:
        """Goes on from where the warming up ended."""
        self._thread.start()

    def taken(self) -> None:
        """A batch that was delivered is dealt with: there is room for one more."""
        self._room.release()

    def close(self) -> None:
        """Ends the thread; blocks until it has, for half a second at most."""
        self._stopped.set()
        self._room.release()
        if self._thread.is_alive():
            self._thread.join(0.5)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                entries, lost = self._reader.read(_POLL, _MOST)
                for part in portions(entries, _BATCH):
                    self._hand_over(Batch(part))
                if lost:
                    self._hand_over(Batch(restarts=self._restart(lost)))
            self._reader.close()
        except Exception as e:  # noqa: BLE001 - handed to the one who runs the broadcaster
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._failed, e)

    def _hand_over(self, batch: Batch) -> None:
        if not self._stopped.is_set():  # whoever stops it makes room once
            self._room.acquire()
        if not self._stopped.is_set():
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _restart(self, lost: list[int]) -> dict[int, int]:
        """Goes on at the earliest record there is, in the partitions where records were deleted."""
        while not self._stopped.is_set():
            try:
                edges = self._reader.edges()
            except KafkaUnavailableError as e:
                _log.warning("broadcaster.kafka", error=str(e))
                continue
            restarts = {partition: edges[partition][0] for partition in lost}
            for partition, first in restarts.items():
                _log.error("broadcaster.records_lost", partition=partition, first=first,
                           wanted=self._reader.positions[partition])  # fmt: skip
            self._reader.assign(self._reader.positions | restarts)
            return restarts
        return {}


class History:
    """Reads what is older than the memory. Blocks; from any thread, and one call waits for another."""

    def __init__(self, config: Config) -> None:
        # It goes from place to place, and each time waits for the fetch that is under way.
        self._reader = _Reader(config, 8 << 10, wait_ms=10)
        self._lock = threading.RLock()

    def edges(self) -> Edges:
        """The first offset and the end of every partition. Raises KafkaUnavailableError."""
        with self._lock:
            return self._reader.edges()

    def read(
        self, position: Mapping[int, int], until: Mapping[int, int], most: int
    ) -> tuple[list[Entry], dict[int, int]]:
        """About `most` bytes from `position` on, and the position then: in each partition up to `until` or beyond.

        Raises KafkaUnavailableError, and OffsetLostError where records are deleted meanwhile.
        """
        with self._lock:
            return self._read(position, until, most)

    def _read(
        self, position: Mapping[int, int], until: Mapping[int, int], most: int
    ) -> tuple[list[Entry], dict[int, int]]:
        if self._reader.positions != position:
            self._reader.assign(position)
        entries: list[Entry] = []
        size = 0
        deadline = time.monotonic() + _PATIENCE
        while size < most and any(self._reader.positions[partition] < offset for partition, offset in until.items()):
            read, lost = self._reader.read(_POLL, _MOST)
            if lost:
                self.rest()
                raise OffsetLostError(f"broadcast/{lost[0]}: records were deleted before they were read")
            if read:
                entries += read
                size += sum(len(entry.data) for entry in read)
                deadline = time.monotonic() + _PATIENCE
            elif time.monotonic() > deadline:
                self.rest()
                raise KafkaUnavailableError("Kafka does not give what it has")
        return entries, dict(self._reader.positions)

    def latest(self, wish: Wish, count: int, before: Mapping[int, int], low: Mapping[int, int]) -> dict[int, int]:
        """The position from which on the last `count` messages of the wish before `before` come; the earliest looked
        at where there are fewer among the last `_SCAN` records of each partition. Raises as `read`."""
        back = max(4 * count, 1_000)
        while True:
            start = {p: max(low[p], end - back) for p, end in before.items()}
            found: list[tuple[int, int, int]] = []
            position = start
            while any(position[p] < end for p, end in before.items()):
                entries, position = self.read(position, before, _CHUNK)
                found += [
                    (entry.partition, entry.offset, entry.timestamp)
                    for entry in entries
                    if entry.offset < before[entry.partition] and wish.channel in (None, entry.channel)
                ]
            if len(found) >= count or back >= _SCAN or start == {p: low[p] for p in before}:
                return suffixes(found, count, before)
            back = min(4 * back, _SCAN)

    def rest(self) -> None:
        """Fetches nothing more until the next read."""
        with self._lock:
            self._reader.assign({})

    def close(self, seconds: float = 0.5) -> None:
        """Ends the consumer, unless a call that still runs keeps it for longer than that."""
        if self._lock.acquire(timeout=seconds):
            self._reader.close()


def portions(entries: list[Entry], most: int) -> Iterator[list[Entry]]:
    """The entries in parts of about `most` bytes: each write takes one, and its size is what a queue has to hold."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += len(entry.data)
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part


def by_time(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, partition after partition as Kafka gives them, as they came in time. Within a partition their order
    stays, whatever the timestamps are.

    >>> read = [Entry(p, o, None, b"", False, time) for p, o, time in ((0, 8, 7), (0, 9, 5), (1, 3, 6))]
    >>> [entry.offset for entry in by_time(read)]
    [3, 8, 9]
    """
    held = list(entries)
    latest: dict[int, int] = {}
    times = []
    for entry in held:
        latest[entry.partition] = max(latest.get(entry.partition, entry.timestamp), entry.timestamp)
        times.append(latest[entry.partition])
    return [held[at] for at in sorted(range(len(held)), key=times.__getitem__)]


def suffixes(found: Iterable[tuple[int, int, int]], count: int, ends: Mapping[int, int]) -> dict[int, int]:
    """Of messages as (partition, offset, timestamp), the position from which on there are the latest `count`.

    >>> suffixes([(0, 1, 10), (0, 2, 30), (1, 5, 20)], 2, {0: 9, 1: 9})
    {0: 2, 1: 5}
    """
    start = dict(ends)
    by_partition: dict[int, list[tuple[int, int]]] = {}
    for partition, offset, timestamp in sorted(found):
        by_partition.setdefault(partition, []).append((timestamp, offset))
    for _ in range(count):
        if not by_partition:
            break
        # The latest at the end of any partition: so what is chosen of each is its end, whatever the timestamps are.
        partition = max(by_partition, key=lambda p: by_partition[p][-1][0])
        start[partition] = by_partition[partition].pop()[1]
        if not by_partition[partition]:
            del by_partition[partition]
    return start
