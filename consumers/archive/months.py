"""Which months of events are old enough."""

from __future__ import annotations

import datetime as dt
import re

from weir.consumers.sinks.partitions import following

_AGE = re.compile(r"([1-9]\d{0,4})(y|mo|d)")


def cutoff(age: str, now: dt.datetime) -> dt.datetime:
    """The moment so long before `now`: `2y`, `18mo` or `90d`. Raises ValueError.

    A day that a month does not have is its last.

    >>> cutoff("1mo", dt.datetime(2026, 3, 31)), cutoff("2y", dt.datetime(2024, 2, 29))
    (datetime.datetime(2026, 2, 28, 0, 0), datetime.datetime(2022, 2, 28, 0, 0))
    """
    match = _AGE.fullmatch(age.strip())
    if not match:
        raise ValueError("write an age as 2y, 18mo or 90d")
    number = int(match[1])
    try:
        if match[2] == "d":
            return now - dt.timedelta(days=number)
        months = now.year * 12 + now.month - 1 - number * (12 if match[2] == "y" else 1)
        first = now.replace(year=months // 12, month=months % 12 + 1, day=1)
    except (OverflowError, ValueError) as e:
        raise ValueError(f"{age} ago is before the year 1: choose a shorter age") from e
    return first.replace(day=min(now.day, (following(first.date()) - dt.timedelta(days=1)).day))


def start(month: dt.date) -> dt.datetime:
    """The moment it begins, in UTC."""
    return dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC)


def containing(moment: dt.datetime | None) -> dt.date | None:
    """The month, in UTC, that the moment is in; None of None."""
    return None if moment is None else moment.astimezone(dt.UTC).date().replace(day=1)
