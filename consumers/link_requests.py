"""What may be asked of `GET /links`: pure, the clock comes in from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import WeirError
from schemas.times import from_rfc3339, to_rfc3339

HOUR = 3_600_000
DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
_FIRST = from_rfc3339("0001-01-01T00:00:00Z")
_FIELDS = ("from", "to", "limit")


class BadRequestError(WeirError):
    """A parameter cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"`{field}`: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True)
class Range:
    """Windows that start at or after `start` and before `end`, in epoch milliseconds."""

    start: int
    end: int


def time_range(start: str | None, end: str | None, now: int) -> Range:
    """The range from `start` to `end` (RFC 3339), by default the hour before `end`, which by default is `now`.

    Raises BadRequestError with the field `from` or `to`.
    """
    to = now if end is None else _time("to", end)
    since = max(to - HOUR, _FIRST) if start is None else _time("from", start)
    if since > to:
        raise BadRequestError("from", f"{to_rfc3339(since)} is after `to`, {to_rfc3339(to)}")
    return Range(since, to)


def parse(parameters: Iterable[tuple[str, str]], now: int) -> tuple[Range, int]:
    """The range and the limit that the parameters of a request name. Raises BadRequestError."""
    given: dict[str, str] = {}
    for field, value in parameters:
        if field not in _FIELDS:
            raise BadRequestError(field, f"there is no such parameter; there are {', '.join(_FIELDS)}")
        if field in given:
            raise BadRequestError(field, "is given more than once")
        given[field] = value
    return time_range(given.get("from"), given.get("to"), now), _limit(given)


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise BadRequestError("limit", f"{text!r} is no whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _time(field: str, text: str) -> int:
    try:
        moment = from_rfc3339(text)
        to_rfc3339(moment)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError(field, f"{e}{hint}") from e
    return moment
