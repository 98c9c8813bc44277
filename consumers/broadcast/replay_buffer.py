"""The latest messages of topic `broadcast`, in memory, in the order in which this process read them. Pure.

A subscriber that resumes is served from here where the log reaches back far enough: `first` says from which offset on
it has everything. Kafka's offsets have holes (transactions, aborted records), so positions are compared, never counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from weir.infra.websocket import frames
from weir.schemas.broadcast import envelope as envelope_of

#: What a message takes in memory besides its bytes, about, and what one in a channel takes besides its name.
_OVERHEAD = 250
_CHANNEL = 150
#: What the shortest message counts for where bytes stand for the time that they take.
_LEAST = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: where it is in the topic, and its frame as every subscriber without an envelope gets it.

    `timestamp` is the record's, in epoch milliseconds.
    """

    partition: int
    offset: int
    channel: str | None
    data: bytes
    binary: bool
    timestamp: int

    @property
    def frame(self) -> bytes:
        """The message as a WebSocket frame."""
        return frames.binary(self.data) if self.binary else frames.text(self.data)

    def enveloped(self, position: str) -> bytes:
        """The message in its envelope, as a WebSocket frame. `position` is the one behind it."""
        return frames.text(envelope_of(position, self.channel, self.data, self.binary))


@dataclass(frozen=True, slots=True)
class SubscriptionFilter:
    """Messages that a subscriber asks for: one channel or all (None), with envelopes or without."""

    channel: str | None
    envelope: bool


class NextOffsets:
    """The next offset of each partition, with its text kept up to date cheaply."""

    __slots__ = ("_at", "_parts", "offsets")

    def __init__(self, offsets: Mapping[int, int]) -> None:
        self.offsets = dict(sorted(offsets.items()))
        self._at = {partition: at for at, partition in enumerate(self.offsets)}
        self._parts = [f"{partition}-{offset}" for partition, offset in self.offsets.items()]

    def pass_by(self, entry: Entry) -> str:
        """Moves behind the entry; the text of the position then."""
        self.offsets[entry.partition] = entry.offset + 1
        self._parts[self._at[entry.partition]] = f"{entry.partition}-{entry.offset + 1}"
        return ".".join(self._parts)


class ReplayBuffer:
    """`start`: the offset of each partition from which on everything will be appended. `limit` in bytes."""

    def __init__(self, start: Mapping[int, int], limit: int) -> None:
        self._limit = limit
        self._size = 0
        #: Entries from `_gone` on are still held; the ones before are forgotten in bulk.
        self._entries: list[Entry] = []
        self._gone = 0
        #: Of each partition, the offsets of its entries and their numbers, counted from the log's very first entry.
        self._index: dict[int, tuple[list[int], list[int]]] = {p: ([], []) for p in start}
        #: Of each partition, the numbers of each channel's entries; half of them may be forgotten already.
        self._channels: dict[int, dict[str, list[int]]] = {p: {} for p in start}
        self._forgotten = 0
        self.first = dict(start)
        self.next = dict(start)

    def __len__(self) -> int:
        return len(self._entries) - self._gone

    @property
    def partitions(self) -> list[int]:
        """Returns all partitions of the topic."""
        return list(self.next)

    def append(self, entries: Iterable[Entry]) -> None:
        """Takes in what was read next, and forgets the oldest where that is too much."""
        for entry in entries:
            offsets, numbers = self._index[entry.partition]
            offsets.append(entry.offset)
            number = self._forgotten + len(self._entries)
            numbers.append(number)
            if entry.channel is not None:
                self._channels[entry.partition].setdefault(entry.channel, []).append(number)
            self._entries.append(entry)
            self._size += _size(entry)
            self.next[entry.partition] = entry.offset + 1
        while self._size > self._limit and len(self):
            self._forget()
        self._compact()

    def trim(self, low: Mapping[int, int]) -> None:
        """Forgets what is deleted from the topic, everything before `low` of a partition, and what was read before."""
        deleted = {p: offset for p, offset in low.items() if offset > self.first.get(p, offset)}
        if not deleted:
            return
        last = -1
        for partition, offset in deleted.items():
            offsets, numbers = self._index[partition]
            if before := bisect_left(offsets, offset):
                last = max(last, numbers[before - 1])
        while self._forgotten + self._gone <= last:
            self._forget()
        for partition, offset in deleted.items():
            self.first[partition] = min(max(self.first[partition], offset), self.next[partition])
        self._compact()

    def restart(self, partition: int, offset: int) -> None:
        """Forgets all of a partition, and goes on from `offset`: what was between is lost, or the topic is another."""
        kept = [entry for entry in self._entries[self._gone :] if entry.partition != partition]
        first = self.first | {partition: offset}
        following = self.next | {partition: offset}
        self._entries, self._gone, self._size, self._forgotten = [], 0, 0, 0
        self._index = {p: ([], []) for p in first}
        self._channels = {p: {} for p in first}
        self.append(kept)
        self.first, self.next = first, following

    def covers(self, position: Mapping[int, int]) -> bool:
        """Whether everything from `position` on that was read is here."""
        return all(self.first[partition] <= offset for partition, offset in position.items())

    def is_end(self, position: Mapping[int, int]) -> bool:
        """Whether nothing that was read is behind `position`."""
        return all(self.next[partition] <= offset for partition, offset in position.items())

    def is_ahead(self, position: Mapping[int, int]) -> bool:
        """Whether a partition has not been read as far as `position`."""
        return any(self.next[partition] < offset for partition, offset in position.items())

    def after(self, position: Mapping[int, int], channel: str | None = None) -> Iterator[Entry]:
        """The entries at and behind `position`, in the order in which they were read; of a channel, which `position`
        has one partition for, its own alone, and no others are looked at."""
        starts = []
        for partition, offset in position.items():
            offsets, numbers = self._index[partition]
            at = bisect_left(offsets, offset)
            if at < len(numbers):
                starts.append(numbers[at])
        if not starts:
            return
        begin = max(min(starts), self._forgotten + self._gone)
        if channel is not None:
            [partition] = position
            numbers = self._channels[partition].get(channel, [])
            for at in range(bisect_left(numbers, begin), len(numbers)):
                yield self._entries[numbers[at] - self._forgotten]
            return
        for at in range(begin - self._forgotten, len(self._entries)):
            entry = self._entries[at]
            if entry.offset >= position.get(entry.partition, entry.offset + 1):
                yield entry

    def latest(self, channel: str | None, partitions: Iterable[int], count: int) -> tuple[dict[int, int], int]:
        """The position from which on the last `count` messages come, of one channel in its one partition or of all;
        and how many of them are here."""
        start = {partition: self.next[partition] for partition in partitions}
        found = 0
        for entry in islice(self._backwards(channel, start), count):
            start[entry.partition] = entry.offset
            found += 1
        return start, found

    def _backwards(self, channel: str | None, partitions: Collection[int]) -> Iterator[Entry]:
        oldest = self._forgotten + self._gone
        if channel is None:
            for at in range(len(self._entries) - 1, self._gone - 1, -1):
                if self._entries[at].partition in partitions:
                    yield self._entries[at]
            return
        [partition] = partitions
        for number in reversed(self._channels[partition].get(channel, ())):
            if number < oldest:
                return
            yield self._entries[number - self._forgotten]

    def _forget(self) -> None:
        entry = self._entries[self._gone]
        self._gone += 1
        self._size -= _size(entry)
        self.first[entry.partition] = max(self.first[entry.partition], entry.offset + 1)
        if entry.channel is not None:
            channels = self._channels[entry.partition]
            numbers, oldest = channels[entry.channel], self._forgotten + self._gone
            if numbers[-1] < oldest:
                del channels[entry.channel]
            elif numbers[half := len(numbers) // 2] < oldest:  # so each number is moved about once
                del numbers[: half + 1]

    def _compact(self) -> None:
        """Gives back what is forgotten, once it is as much as what is left: so each entry is moved about once."""
        if self._gone <= len(self):
            return
        del self._entries[: self._gone]
        self._forgotten += self._gone
        self._gone = 0
        for offsets, numbers in self._index.values():
            cut = bisect_left(numbers, self._forgotten)
            del offsets[:cut], numbers[:cut]


def _size(entry: Entry) -> int:
    return len(entry.data) + _OVERHEAD + (0 if entry.channel is None else len(entry.channel) + _CHANNEL)


def wanted(
    entries: Iterable[Entry], filter_: SubscriptionFilter, position: Mapping[int, int], most: int
) -> tuple[bytes, dict[int, int], bool]:
    """Selects the frames for a subscriber at `position` from `entries`, about `most` bytes. Returns the frames, the
    subscriber's next position, and whether these are all.

    The entries of a partition are in order; those before `position`, of another partition or channel are left out.
    """
    at = NextOffsets(position)
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        offset = at.offsets.get(entry.partition)
        if offset is None or entry.offset < offset:
            continue
        if size >= most:
            return b"".join(parts), at.offsets, False
        text = at.pass_by(entry)
        if filter_.channel is None or filter_.channel == entry.channel:
            frame = entry.enveloped(text) if filter_.envelope else entry.frame
            parts.append(frame)
            size += max(len(frame), _LEAST)
    return b"".join(parts), at.offsets, True
