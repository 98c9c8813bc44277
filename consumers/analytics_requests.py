"""What may be asked of `GET /analytics`: pure, the clock comes in from outside."""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from consumers.analytics_days import DailyQuery
from consumers.analytics_events import EventQuery
from consumers.link_requests import time_range
from consumers.parameters import BadRequestError, given, identifier, whole
from schemas.tenants import MAX_TENANT

#: Rows in one page of JSON, and in one piece of a download.
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000
#: How many days are answered for where the request does not say since when.
DEFAULT_DAYS = 30
_PAGES = ("limit", "after")
_DAILY = ("plan", "from", "to", "percentiles", *_PAGES, "format")
_TENANT_DAILY = ("from", "to", "percentiles", *_PAGES, "format")
_EVENTS = ("from", "to", "type", *_PAGES, "format")
_SUMMARY = ("from", "to", "format")

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_PLAN = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

T = TypeVar("T")


class Format(enum.StrEnum):
    """How an answer is written, by its media type."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"


class NotAcceptableError(BadRequestError):
    """The header Accept allows none of the formats."""


def tenant_of(text: str) -> int:
    """The tenant that a request's path names. Raises BadRequestError.

    >>> tenant_of("7")
    7
    """
    return whole("tenant_id", text, MAX_TENANT)


def parse_daily(parameters: Iterable[tuple[str, str]], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    """Which days of which plan, and in which format. Raises BadRequestError.

    `limit` is 10 000 for a download, which is of all days that there are.
    """
    return _days(given(parameters, _DAILY), accept, today)


def parse_tenant_daily(parameters: Iterable[tuple[str, str]], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    """The same of one tenant, whom the path names."""
    return _days(given(parameters, _TENANT_DAILY), accept, today)


def parse_events(parameters: Iterable[tuple[str, str]], accept: str, now: int) -> tuple[EventQuery, Format]:
    """Which events, by default those of the hour before `now` (epoch milliseconds). Raises BadRequestError."""
    asked = given(parameters, _EVENTS)
    written = _format(asked, accept)
    times = time_range(asked.get("from"), asked.get("to"), now)
    after = _after(asked, _moment, "2026-01-31T12:00:00Z,1") if "after" in asked else None
    start, end = (_EPOCH + dt.timedelta(milliseconds=time) for time in (times.start, times.end))
    limit = _limit(asked, written)
    kind = identifier("type", asked["type"]) if "type" in asked else None
    return EventQuery(start, end, limit, kind, after), written


def parse_summary(
    parameters: Iterable[tuple[str, str]], accept: str, today: dt.date
) -> tuple[dt.date, dt.date, Format]:
    """From which day to before which, and in which format. Raises BadRequestError."""
    asked = given(parameters, _SUMMARY)
    return *_range(asked, today), _format(asked, accept)


def day_cursor(place: tuple[dt.date, int]) -> str:
    """What a client sends back to get the rest of days.

    >>> day_cursor((dt.date(2026, 1, 31), 7))
    '2026-01-31,7'
    """
    return f"{place[0].isoformat()},{place[1]}"


def event_cursor(place: tuple[dt.datetime, int]) -> str:
    """The same of events."""
    return f"{moment_text(place[0])},{place[1]}"


def moment_text(moment: dt.datetime) -> str:
    """RFC 3339 in UTC; the fraction is written as far as there is one.

    >>> moment_text(_EPOCH), moment_text(_EPOCH + dt.timedelta(microseconds=1500))
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:00.001500Z')
    """
    part = moment.microsecond
    exact = "microseconds" if part % 1000 else "milliseconds" if part else "seconds"
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec=exact) + "Z"


def _days(asked: Mapping[str, str], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    written = _format(asked, accept)
    start, end = _range(asked, today)
    after = _after(asked, _day, "2026-01-31,1") if "after" in asked else None
    plan = asked.get("plan")
    if plan is not None and not _PLAN.fullmatch(plan):
        raise BadRequestError("plan", "is 1 to 63 small letters, digits, _ and -, a letter first")
    percentiles = asked.get("percentiles", "true")
    if percentiles not in ("true", "false"):
        raise BadRequestError("percentiles", f"{percentiles!r} is neither true nor false")
    return DailyQuery(plan, start, end, _limit(asked, written), after, percentiles == "true"), written


def _range(asked: Mapping[str, str], today: dt.date) -> tuple[dt.date, dt.date]:
    end = _day("to", asked["to"]) if "to" in asked else today + dt.timedelta(days=1)
    earliest = dt.date.fromordinal(max(1, end.toordinal() - DEFAULT_DAYS))
    start = _day("from", asked["from"]) if "from" in asked else earliest
    if start > end:
        raise BadRequestError("from", f"{start} is after `to`, {end}")
    return start, end


def _day(field: str, text: str) -> dt.date:
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError as e:
        raise BadRequestError(field, f"{text!r} is no day: {e}") from e
    raise BadRequestError(field, f"{text!r} is no day: write it as 2026-01-31")


def _moment(field: str, text: str) -> dt.datetime:
    try:
        if _MOMENT.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise BadRequestError(field, f"{text!r} is no time: {e}") from e
    raise BadRequestError(field, f"{text!r} is no time in UTC: write it as 2026-01-31T12:00:00Z")


def _after(asked: Mapping[str, str], parse: Callable[[str, str], T], example: str) -> tuple[T, int]:
    place, comma, number = asked["after"].partition(",")
    if not comma:
        raise BadRequestError("after", f"is none that an answer here has given, such as {example}")
    return parse("after", place), whole("after", number, MAX_TENANT)


def _limit(asked: Mapping[str, str], written: Format) -> int:
    if written is not Format.JSON:
        if field := next((field for field in _PAGES if field in asked), None):
            raise BadRequestError(field, "is for pages of JSON: a download has all there is from `from` to `to`")
        return MAX_LIMIT
    return whole("limit", asked.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)


def _format(asked: Mapping[str, str], accept: str) -> Format:
    """The parameter `format` counts, where it is given, else the header Accept (RFC 9110, 12.5.1)."""
    if (name := asked.get("format")) is not None:
        if name.upper() not in Format.__members__ or name != name.lower():
            raise BadRequestError("format", f"{name[:40]!r} is none of json, csv and parquet")
        return Format[name.upper()]
    ranges = [_accepted(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    weights = {written: _weight(written, dict(ranges)) for written in Format}
    best = max(weights, key=lambda written: weights[written])
    if weights[best] <= 0:
        raise NotAcceptableError("Accept", f"there are {', '.join(Format)}")
    return best


def _accepted(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    if not re.fullmatch(r"[01](\.\d{0,3})?", weight, re.ASCII):
        raise BadRequestError("Accept", f"{weight[:40]!r} is no weight from 0 to 1")
    return name, float(weight)


def _weight(written: Format, ranges: Mapping[str, float]) -> float:
    """What the most specific range says of the format."""
    return next((ranges[name] for name in (written, f"{written.split('/')[0]}/*", "*/*") if name in ranges), 0.0)
