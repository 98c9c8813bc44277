"""Distributes live messages to subscribers: one payload per kind of subscriber, however many there are. Pure.

A subscriber is in here from the moment that it has everything before the log's end, and then gets each batch as a
whole. All that want the same get the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from weir.consumers.broadcast.replay_buffer import Entry, NextOffsets, SubscriptionFilter
from weir.schemas.broadcast import partition_of

S = TypeVar("S")


class FanOut(Generic[S]):
    """The live subscribers by what they want; `partitions` is how many the topic has."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._by_filter: dict[SubscriptionFilter, dict[S, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_filter.values()))

    def __iter__(self) -> Iterator[S]:
        for subscribers in self._by_filter.values():
            yield from subscribers

    def join(self, subscriber: S, filter_: SubscriptionFilter) -> None:
        """The subscriber has everything up to now, and gets what comes."""
        self._by_filter.setdefault(filter_, {})[subscriber] = None

    def leave(self, subscriber: S, filter_: SubscriptionFilter) -> None:
        """Nothing more for the subscriber; it may have left, or not been live, already."""
        subscribers = self._by_filter.get(filter_)
        if subscribers is not None:
            subscribers.pop(subscriber, None)
            if not subscribers:
                del self._by_filter[filter_]

    def payloads(self, batch: Iterable[Entry], before: Mapping[int, int]) -> list[tuple[list[S], bytes]]:
        """Frames, and who gets them: those that are here now. `before` is the position in front of the batch."""
        batch = list(batch)
        found = [
            (filter_, _everything(batch, filter_.envelope, before))
            for filter_ in (SubscriptionFilter(None, False), SubscriptionFilter(None, True))
            if filter_ in self._by_filter and batch
        ]
        by_channel: dict[str, list[Entry]] = {}
        for entry in batch:
            # What was written to another partition than its channel's has no place in the channel's order.
            if entry.channel is not None and entry.partition == partition_of(entry.channel, self._partitions):
                by_channel.setdefault(entry.channel, []).append(entry)
        for channel, entries in by_channel.items():
            found += [
                (filter_, _of_channel(entries, filter_.envelope))
                for filter_ in (SubscriptionFilter(channel, False), SubscriptionFilter(channel, True))
                if filter_ in self._by_filter
            ]
        return [(list(self._by_filter[filter_]), payload) for filter_, payload in found]


def _everything(batch: list[Entry], enveloped: bool, before: Mapping[int, int]) -> bytes:
    if not enveloped:
        return b"".join([entry.frame for entry in batch])
    at = NextOffsets(before)
    return b"".join([entry.enveloped(at.pass_by(entry)) for entry in batch])


def _of_channel(batch: list[Entry], enveloped: bool) -> bytes:
    if not enveloped:
        return b"".join([entry.frame for entry in batch])
    return b"".join([entry.enveloped(f"{entry.partition}-{entry.offset + 1}") for entry in batch])
