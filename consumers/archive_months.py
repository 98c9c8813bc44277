"""Which months of events are old enough, and what their partitions are called."""

from __future__ import annotations

import datetime as dt
import re

_AGE = re.compile(r"([1-9]\d{0,4})(y|mo|d)")
_NAME = re.compile(r"events_([2-9]\d{3})(0[1-9]|1[0-2])")


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
        raise ValueError(f"{age} ago there were no years") from e
    return first.replace(day=min(now.day, (following(first.date()) - dt.timedelta(days=1)).day))


def following(month: dt.date) -> dt.date:
    """The first day of the next month.

    >>> following(dt.date(2025, 12, 1))
    datetime.date(2026, 1, 1)
    """
    return (month.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def start(month: dt.date) -> dt.datetime:
    """The moment it begins, in UTC."""
    return dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC)


def containing(moment: dt.datetime | None) -> dt.date | None:
    """The month, in UTC, that the moment is in; None of None."""
    return None if moment is None else moment.astimezone(dt.UTC).date().replace(day=1)


def partition(month: dt.date) -> str:
    """The name of its partition.

    >>> partition(dt.date(2024, 1, 1))
    'events_202401'
    """
    return f"events_{month:%Y%m}"


def month_of(name: str) -> dt.date | None:
    """The first day of the month whose partition has this name; None where it is no such name.

    >>> month_of("events_202401"), month_of("events_default")
    (datetime.date(2024, 1, 1), None)
    """
    match = _NAME.fullmatch(name)
    return dt.date(int(match[1]), int(match[2]), 1) if match else None


def is_due(month: dt.date, before: dt.datetime) -> bool:
    """Whether all of the month is before that moment.

    >>> is_due(dt.date(2024, 1, 1), dt.datetime(2024, 2, 1, tzinfo=dt.UTC))
    True
    """
    return start(following(month)) <= before
