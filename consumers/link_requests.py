"""What may be asked of `GET /links`: pure, the clock comes in from outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consumers.parameters import BadRequestError, given, moment, whole
from schemas.times import from_rfc3339, to_rfc3339

HOUR = 3_600_000
DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
_FIRST = from_rfc3339("0001-01-01T00:00:00Z")
_FIELDS = ("from", "to", "limit")


@dataclass(frozen=True)
class Range:
    """Windows that start at or after `start` and before `end`, in epoch milliseconds."""

    start: int
    end: int


def time_range(start: str | None, end: str | None, now: int) -> Range:
    """The range from `start` to `end` (RFC 3339), by default the hour before `end`, which by default is `now`.

    Raises BadRequestError with the field `from` or `to`.
    """
    to = now if end is None else moment("to", end, _in_calendar)
    since = max(to - HOUR, _FIRST) if start is None else moment("from", start, _in_calendar)
    if since > to:
        raise BadRequestError("from", f"{to_rfc3339(since)} is after `to`, {to_rfc3339(to)}")
    return Range(since, to)


def parse(parameters: Iterable[tuple[str, str]], now: int) -> tuple[Range, int]:
    """The range and the limit that the parameters of a request name. Raises BadRequestError."""
    asked = given(parameters, _FIELDS)
    times = time_range(asked.get("from"), asked.get("to"), now)
    return times, whole("limit", asked.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)


def _in_calendar(text: str) -> int:
    time = from_rfc3339(text)
    to_rfc3339(time)
    return time
