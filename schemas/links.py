"""The links job's messages: who belongs to whom, who talked to whom, and how often.

An id is an opaque string of 1 to 128 printable characters (`str.isprintable`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import msgspec

from schemas.times import from_rfc3339, to_rfc3339

#: The largest count: what a signed 64-bit number holds, in Postgres too.
MAX_COUNT = 2**63 - 1
#: More partitions than any topic has: a number beyond it is no partition.
MAX_PARTITIONS = 1 << 16

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Relation(msgspec.Struct, frozen=True, gc=False):
    """`child` belongs to `parent`, from the record's timestamp on. Topic `relations`, key: the child."""

    parent: Id
    child: Id


class Communication(msgspec.Struct, frozen=True, gc=False, rename={"http_status": "httpStatus"}):
    """One call from a child to a child, at the record's timestamp. Topic `communications`, key free.

    Only the two ids are needed to count; the rest is checked where it is given. Unknown fields are ignored.
    """

    source: Id
    destination: Id
    method: str | None = None
    path: str | None = None
    http_status: int | None = None


class Window(msgspec.Struct, frozen=True, gc=False):
    """A window of event time, from `start` (inclusive) to `end` (exclusive), RFC 3339 in UTC."""

    start: str
    end: str


class LinkCount(msgspec.Struct, frozen=True, gc=False):
    """How often one parent talked to another in one window. Topic `link-counts`.

    The latest record per key is the truth; `final` says that its window is closed. A final count that changes
    (a late event within the retention) is written again, final as well.
    """

    window: Window
    source: Id
    destination: Id
    count: int
    final: bool


class WindowClosed(msgspec.Struct, frozen=True, gc=False):
    """One partition of `link-counts` has closed one window. Topic `link-windows`, written with the window's last cells.

    `cells` is how many final counts that partition holds for the window (0 for an empty one): a reader has the
    window whole once it has heard this from all `partitions`, and has read that many final counts of each.
    """

    window: Window
    partition: int
    partitions: int
    cells: int


class Link(msgspec.Struct, frozen=True, gc=False):
    """One line of a window's summary."""

    source: str
    destination: str
    count: int


class WindowSummary(msgspec.Struct, frozen=True):
    """What goes back over the feed's socket once a window is whole."""

    window: Window
    links: list[Link]


def link_count_key(window_start: str, source: str, destination: str) -> bytes:
    """The key of a `link-counts` record: a JSON array, since an id may hold any printable separator.

    >>> link_count_key("2026-01-01T00:00:00Z", "a", "b")
    b'["2026-01-01T00:00:00Z","a","b"]'
    """
    return msgspec.json.encode((window_start, source, destination))


def check_id(value: str, field: str) -> str:
    """The id itself, or ValueError where it is not 1 to 128 printable characters."""
    if not 1 <= len(value) <= 128:
        raise ValueError(f"`{field}` has {len(value)} characters, 1 to 128 are allowed")
    if not value.isprintable():
        raise ValueError(f"`{field}` holds a character that is not printable")
    return value


def check_relation(relation: Relation) -> None:
    """Raises ValueError where an id is not acceptable: what the type itself cannot say."""
    check_id(relation.parent, "parent")
    check_id(relation.child, "child")


def check_communication(communication: Communication) -> None:
    """Raises ValueError where an id is not acceptable: what the type itself cannot say."""
    check_id(communication.source, "source")
    check_id(communication.destination, "destination")


@lru_cache(maxsize=4096)
def window_bounds(window: Window) -> tuple[int, int]:
    """Start and end in epoch milliseconds. Raises ValueError where they are no times, or not in this order."""
    bounds = []
    for field, text in (("start", window.start), ("end", window.end)):
        try:
            bounds.append(from_rfc3339(text))
            to_rfc3339(bounds[-1])
        except ValueError as e:
            raise ValueError(f"`window.{field}` is no time: {e}") from e
    start, end = bounds
    if end <= start:
        raise ValueError(f"`window.end` {window.end} is not after `window.start` {window.start}")
    return start, end


def check_link_count(count: LinkCount) -> None:
    """Raises ValueError where an id, a time or the count is not acceptable: what the type itself cannot say."""
    window_bounds(count.window)
    check_id(count.source, "source")
    check_id(count.destination, "destination")
    if not 0 <= count.count <= MAX_COUNT:
        raise ValueError(f"`count` is {count.count}, 0 to {MAX_COUNT} are allowed")


def check_window_closed(closed: WindowClosed) -> None:
    """Raises ValueError where a time or a number is not acceptable: what the type itself cannot say."""
    window_bounds(closed.window)
    if not 0 <= closed.partition < closed.partitions <= MAX_PARTITIONS:
        raise ValueError(
            f"`partition` is {closed.partition} of {closed.partitions}, 0 to {MAX_PARTITIONS - 1} are allowed"
        )
    if not 0 <= closed.cells <= MAX_COUNT:
        raise ValueError(f"`cells` is {closed.cells}, 0 to {MAX_COUNT} are allowed")
