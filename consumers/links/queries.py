"""Closed windows out of Postgres: the one query behind `GET /links` and `weir links`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import psycopg

from weir.consumers.links.tables import moment
from weir.infra import postgres
from weir.schemas.links import Link, WindowSummary
from weir.schemas.times import to_rfc3339
from weir.schemas.windows import Window

#: Links in one answer at most, unless a single window has more: a window is never split.
MAX_LINKS = 100_000

_WINDOWS = """
SELECT (extract(epoch FROM window_start) * 1000)::bigint, (extract(epoch FROM window_end) * 1000)::bigint, links
FROM closed_windows
WHERE window_start >= %s AND window_start < %s
ORDER BY window_start
LIMIT %s
"""

_LINKS = """
SELECT (extract(epoch FROM window_start) * 1000)::bigint, source, destination, count
FROM link_counts
WHERE window_start = ANY(%s) AND final
ORDER BY window_start, source, destination
"""


@dataclass(frozen=True)
class WindowPage:
    """Closed windows in order of their start; `next` is the start of the first that did not fit, epoch milliseconds."""

    windows: list[WindowSummary]
    next: int | None


async def closed_windows(
    connection: psycopg.AsyncConnection, start: int, end: int, limit: int, max_links: int = MAX_LINKS
) -> WindowPage:
    """The closed windows that start at or after `start` and before `end` (epoch milliseconds), `limit` at most.

    All of one answer is of one moment. Raises PostgresUnavailableError, and OverflowError for a time that Postgres
    is not asked for: past the year 9999.
    """
    with postgres.translated():
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor = await connection.execute(_WINDOWS, [moment(start), moment(end), limit + 1])
            found = await cursor.fetchall()
            fitting = _fitting([links for _, _, links in found], limit, max_links)
            rows = []
            if fitting:
                cursor = await connection.execute(_LINKS, [[moment(start) for start, _, _ in found[:fitting]]])
                rows = await cursor.fetchall()
    links: dict[int, list[Link]] = {window: [] for window, _, _ in found[:fitting]}
    for window, source, destination, count in rows:
        links[window].append(Link(source, destination, count))
    return WindowPage(
        windows=[WindowSummary(Window(to_rfc3339(a), to_rfc3339(b)), links[a]) for a, b, _ in found[:fitting]],
        next=found[fitting][0] if fitting < len(found) else None,
    )


def _fitting(links: list[int], limit: int, max_links: int) -> int:
    """How many of the windows with so many links go into one answer: one at least, where there is one."""
    within = sum(total <= max_links for total in accumulate(links[:limit]))
    return max(within, min(1, len(links)))
