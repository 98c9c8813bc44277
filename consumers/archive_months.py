"""Which months of events are old enough, and which partition holds one."""

from __future__ import annotations

import datetime as dt
import re

_AGE = re.compile(r"([1-9]\d{0,4})(y|mo|d)")
#: A partition's bounds as Postgres writes them; its session's time zone is UTC.
_BOUNDS = re.compile(r"FOR VALUES FROM \(.*\) TO \('([^']+)'\)")


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
    """What its partition is called, unless a table of that name was in the way; its folders in the archive are, too.

    >>> partition(dt.date(2024, 1, 1))
    'events_202401'
    """
    return f"events_{month:%Y%m}"


def bounds(month: dt.date) -> str:
    """The bounds of its partition, as Postgres writes them in UTC.

    >>> bounds(dt.date(2023, 12, 1))
    "FOR VALUES FROM ('2023-12-01 00:00:00+00') TO ('2024-01-01 00:00:00+00')"
    """
    first, last = (f"{day.isoformat()} 00:00:00+00" for day in (month, following(month)))
    return f"FOR VALUES FROM ('{first}') TO ('{last}')"


def end_of(text: str) -> dt.datetime | None:
    """When the events of a partition with these bounds end; None where it has no end, or one after the year 9999.

    >>> end_of("FOR VALUES FROM (MINVALUE) TO ('2023-02-01 00:00:00+00')"), end_of("DEFAULT")
    (datetime.datetime(2023, 2, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    match = _BOUNDS.fullmatch(text)
    try:
        return dt.datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def month_of(text: str) -> dt.date | None:
    """The first day of the month whose partition has these bounds; None where they are not those of one month.

    >>> month_of(bounds(dt.date(2024, 1, 1))), month_of("DEFAULT")
    (datetime.date(2024, 1, 1), None)
    """
    end = end_of(text)
    if end is None or end.date() <= dt.date(1, 1, 31):
        return None
    month = (end.date() - dt.timedelta(days=1)).replace(day=1)
    return month if text == bounds(month) else None
