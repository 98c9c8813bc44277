"""Parameters of `GET /links`. Pure: the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weir.infra.http.parameters import BadRequestError, parse_int, parse_parameters, parse_time
from weir.schemas.times import from_rfc3339, to_rfc3339

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
    to = now if end is None else parse_time("to", end, _in_calendar)
    since = max(to - HOUR, _FIRST) if start is None else parse_time("from", start, _in_calendar)
    if since > to:
        raise BadRequestError("from", f"{to_rfc3339(since)} is after `to`, {to_rfc3339(to)}")
    return Range(since, to)


def parse(parameters: Iterable[tuple[str, str]], now: int) -> tuple[Range, int]:
    """The range and the limit that the parameters of a request name. Raises BadRequestError."""
    params = parse_parameters(parameters, _FIELDS)
    times = time_range(params.get("from"), params.get("to"), now)
    return times, parse_int("limit", params.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)


def _in_calendar(text: str) -> int:
    time = from_rfc3339(text)
    to_rfc3339(time)
    return time
