"""Parameters of a subscriber's query. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weir.consumers.broadcast.replay_buffer import SubscriptionFilter
from weir.schemas.broadcast import check_channel, parse_position, partition_of

FIELDS = ("channel", "last", "after", "hello", "envelope")
#: The most messages from before its time that a subscriber may ask for by number; with `after` there is no limit.
MAX_LAST = 10_000


@dataclass(frozen=True)
class SubscriptionQuery:
    """`last` and `after` say where delivery starts; at most one is set, and with neither it starts now."""

    filter: SubscriptionFilter
    last: int | None = None
    after: Mapping[int, int] | None = None
    hello: bool = False

    def partitions(self, count: int) -> list[int]:
        """Returns the partitions that the subscription reads, out of `count`."""
        return list(range(count)) if self.filter.channel is None else [partition_of(self.filter.channel, count)]


def parse(query: Mapping[str, str]) -> SubscriptionQuery:
    """Parses the fields of a query. Raises ValueError, which names the field, for a value that is not allowed."""
    for field in query:
        if field not in FIELDS:
            raise ValueError(f"unknown query parameter `{field[:40]}`; allowed: {', '.join(FIELDS)}")
    channel = check_channel(query["channel"]) if "channel" in query else None
    if "last" in query and "after" in query:
        raise ValueError("`last` and `after` cannot be used together")
    last, after = None, None
    if "last" in query:
        text = query["last"]
        if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) <= MAX_LAST):
            raise ValueError(f"`last` must be a whole number up to {MAX_LAST}")
        last = int(text)
    if "after" in query:
        after = parse_position(query["after"])
    envelope = _flag(query, "envelope")
    hello = _flag(query, "hello") or envelope or last is not None or after is not None
    return SubscriptionQuery(SubscriptionFilter(channel, envelope), last, after, hello)


def start_of(subscription: SubscriptionQuery, edges: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], bool]:
    """Where a subscription with `after` starts, and whether everything since is there: `edges` are the first offset
    and the end of each of the topic's partitions.

    Where records are gone, or the position is of a topic that is gone, it starts at the earliest there is. A partition
    that the position does not name was made since; a channel is in one from its first message on.
    """
    after = subscription.after or {}
    start, recovered = {}, all(partition in edges for partition in after)
    for partition in subscription.partitions(len(edges)):
        low, high = edges[partition]
        wanted = after.get(partition, 0)
        if partition not in after and subscription.filter.channel is not None:
            recovered = False
        if low <= wanted <= high:
            start[partition] = wanted
        else:
            start[partition] = low
            recovered = False
    return start, recovered


def _flag(query: Mapping[str, str], field: str) -> bool:
    value = query.get(field, "0")
    if value not in ("0", "1"):
        raise ValueError(f"`{field}` must be 1 or 0")
    return value == "1"
