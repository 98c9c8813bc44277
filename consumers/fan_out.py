"""Who gets what of the messages that are live: one payload per kind of subscriber, however many there are. Pure.

A subscriber is in here from the moment that it has everything before the log's end, and then gets each batch as a
whole. All that want the same get the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from consumers.broadcast_log import Entry, Position, Wish
from schemas.broadcast import partition_of

S = TypeVar("S")


class FanOut(Generic[S]):
    """The live subscribers by what they want; `partitions` is how many the topic has."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._by_wish: dict[Wish, dict[S, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_wish.values()))

    def __iter__(self) -> Iterator[S]:
        for subscribers in self._by_wish.values():
            yield from subscribers

    def join(self, subscriber: S, wish: Wish) -> None:
        """The subscriber has everything up to now, and gets what comes."""
        self._by_wish.setdefault(wish, {})[subscriber] = None

    def leave(self, subscriber: S, wish: Wish) -> None:
        """Nothing more for the subscriber; it may have left, or not been live, already."""
        subscribers = self._by_wish.get(wish)
        if subscribers is not None:
            subscribers.pop(subscriber, None)
            if not subscribers:
                del self._by_wish[wish]

    def payloads(self, batch: Iterable[Entry], before: Mapping[int, int]) -> list[tuple[list[S], bytes]]:
        """Frames, and who gets them: those that are here now. `before` is the position in front of the batch."""
        batch = list(batch)
        found = [
            (wish, _everything(batch, wish.envelope, before))
            for wish in (Wish(None, False), Wish(None, True))
            if wish in self._by_wish and batch
        ]
        by_channel: dict[str, list[Entry]] = {}
        for entry in batch:
            # What was written to another partition than its channel's has no place in the channel's order.
            if entry.channel is not None and entry.partition == partition_of(entry.channel, self._partitions):
                by_channel.setdefault(entry.channel, []).append(entry)
        for channel, entries in by_channel.items():
            found += [
                (wish, _of_channel(entries, wish.envelope))
                for wish in (Wish(channel, False), Wish(channel, True))
                if wish in self._by_wish
            ]
        return [(list(self._by_wish[wish]), payload) for wish, payload in found]


def _everything(batch: list[Entry], enveloped: bool, before: Mapping[int, int]) -> bytes:
    if not enveloped:
        return b"".join([entry.frame for entry in batch])
    at = Position(before)
    return b"".join([entry.enveloped(at.pass_by(entry)) for entry in batch])


def _of_channel(batch: list[Entry], enveloped: bool) -> bytes:
    if not enveloped:
        return b"".join([entry.frame for entry in batch])
    return b"".join([entry.enveloped(f"{entry.partition}-{entry.offset + 1}") for entry in batch])
