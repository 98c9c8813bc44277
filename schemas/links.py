"""The links job's messages: which child belongs to which parent, who called whom, and how often."""

from __future__ import annotations

import msgspec

from weir.schemas.fields import Id, check_id
from weir.schemas.windows import MAX_COUNT, Window, window_bounds


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


class Link(msgspec.Struct, frozen=True, gc=False):
    """One line of a window's summary."""

    source: str
    destination: str
    count: int


class WindowSummary(msgspec.Struct, frozen=True):
    """The counts of one complete window, as they are sent back over the feed's socket."""

    window: Window
    links: list[Link]


def link_count_key(window_start: str, source: str, destination: str) -> bytes:
    """The key of a `link-counts` record: a JSON array, since an id may hold any printable separator.

    >>> link_count_key("2026-01-01T00:00:00Z", "a", "b")
    b'["2026-01-01T00:00:00Z","a","b"]'
    """
    return msgspec.json.encode((window_start, source, destination))


def check_relation(relation: Relation) -> None:
    """Raises ValueError where an id is not acceptable: what the type itself cannot say."""
    check_id(relation.parent, "parent")
    check_id(relation.child, "child")


def check_communication(communication: Communication) -> None:
    """Raises ValueError where an id is not acceptable: what the type itself cannot say."""
    check_id(communication.source, "source")
    check_id(communication.destination, "destination")


def check_link_count(count: LinkCount) -> None:
    """Raises ValueError where an id, a time or the count is not acceptable: what the type itself cannot say."""
    window_bounds(count.window)
    check_id(count.source, "source")
    check_id(count.destination, "destination")
    if not 0 <= count.count <= MAX_COUNT:
        raise ValueError(f"`count` is {count.count}, 0 to {MAX_COUNT} are allowed")
