"""A small job of the tests' own: who viewed which page for how long, over windows of any kind."""

from __future__ import annotations

from typing import Any

import msgspec

from weir.schemas.topic import Topic
from weir.streams.api import Emit, HoppingWindows, SessionWindows, TumblingWindows, Windowed


class View(msgspec.Struct, frozen=True):
    """One view of a page by a user, and what it was worth; `at` is its time where the job goes by that."""

    page: str
    user: str
    worth: float
    at: int = 0


VIEWS = Topic("views", "producers", "Views of pages", "free", View)
PARTIALS = Topic("page-partials", "streams/pages", "Partial results", "none", None, internal=True)
PAGES = Topic("pages", "streams/pages", "What became of each page", '["window start","page"]', None)
CHANGELOG = Topic("pages-changelog", "streams/pages", "State of the cells", "window and page", None, internal=True)
CLOSINGS = Topic("page-windows", "streams/pages", "Closed windows", "window and partition", None)

#: Windows of ten seconds, each over a minute; a minute's gap; late after ten.
KINDS = {
    "tumbling": TumblingWindows(60_000, 5_000, 600_000),
    "hopping": HoppingWindows(60_000, 20_000, 5_000, 600_000),
    "session": SessionWindows(20_000, 5_000, 600_000),
}


def pages(kind: str = "tumbling", emit: Emit = Emit.CHANGES, changelog: bool = False, **other: Any) -> Windowed:
    """The job, with windows of that kind."""
    settings: dict[str, Any] = {
        "name": "pages",
        "source": VIEWS,
        "key": ["page"],
        "windows": KINDS[kind],
        "partials": PARTIALS,
        "output": PAGES,
        "changelog": CHANGELOG if changelog or emit is Emit.CLOSED else None,
        "closings": None if kind == "session" else CLOSINGS,
        "emit": emit,
        "max_skew": 10_000_000,
    }
    return Windowed(**{**settings, **other})
