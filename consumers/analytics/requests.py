"""Parameters of `GET /analytics`. Pure: the clock is passed in."""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.events import EventQuery
from weir.consumers.links.requests import time_range
from weir.infra.errors import MissingExtraError
from weir.infra.extras import require
from weir.infra.http.parameters import BadRequestError, parse_identifier, parse_int, parse_parameters
from weir.schemas.tenants import MAX_TENANT

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
    """Parses the tenant's number in a request's path. Raises BadRequestError.

    >>> tenant_of("7")
    7
    """
    return parse_int("tenant_id", text, MAX_TENANT)


def parse_daily(parameters: Iterable[tuple[str, str]], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    """Parses a query for the days of tenants on a plan, and its format. Raises BadRequestError.

    `limit` is 10 000 for a download, which is of all days that there are.
    """
    return _days(parse_parameters(parameters, _DAILY), accept, today)


def parse_tenant_daily(parameters: Iterable[tuple[str, str]], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    """Parses a query for the days of one tenant, whom the path names. Raises BadRequestError."""
    return _days(parse_parameters(parameters, _TENANT_DAILY), accept, today)


def parse_events(parameters: Iterable[tuple[str, str]], accept: str, now: int) -> tuple[EventQuery, Format]:
    """Parses a query for events, by default those of the hour before `now` (epoch milliseconds). Raises
    BadRequestError.
    """
    params = parse_parameters(parameters, _EVENTS)
    written = _format(params, accept)
    times = time_range(params.get("from"), params.get("to"), now)
    after = _after(params, _moment, "2026-01-31T12:00:00Z,1") if "after" in params else None
    start, end = (_EPOCH + dt.timedelta(milliseconds=time) for time in (times.start, times.end))
    limit = _limit(params, written)
    kind = parse_identifier("type", params["type"]) if "type" in params else None
    return EventQuery(start, end, limit, kind, after), written


def parse_summary(
    parameters: Iterable[tuple[str, str]], accept: str, today: dt.date
) -> tuple[dt.date, dt.date, Format]:
    """Parses the range of days of a summary, and its format. Raises BadRequestError."""
    params = parse_parameters(parameters, _SUMMARY)
    return *_range(params, today), _format(params, accept)


def day_cursor(place: tuple[dt.date, int]) -> str:
    """Returns the cursor of a page of days, which a client sends back to get the next page.

    >>> day_cursor((dt.date(2026, 1, 31), 7))
    '2026-01-31,7'
    """
    return f"{place[0].isoformat()},{place[1]}"


def event_cursor(place: tuple[dt.datetime, int]) -> str:
    """Returns the cursor of a page of events, which a client sends back to get the next page."""
    return f"{moment_text(place[0])},{place[1]}"


def moment_text(moment: dt.datetime) -> str:
    """RFC 3339 in UTC; the fraction is written as far as there is one.

    >>> moment_text(_EPOCH), moment_text(_EPOCH + dt.timedelta(microseconds=1500))
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:00.001500Z')
    """
    part = moment.microsecond
    exact = "microseconds" if part % 1000 else "milliseconds" if part else "seconds"
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec=exact) + "Z"


def _days(params: Mapping[str, str], accept: str, today: dt.date) -> tuple[DailyQuery, Format]:
    written = _format(params, accept)
    start, end = _range(params, today)
    after = _after(params, _day, "2026-01-31,1") if "after" in params else None
    plan = params.get("plan")
    if plan is not None and not _PLAN.fullmatch(plan):
        raise BadRequestError("plan", "must be 1 to 63 lower-case letters, digits, _ and -, starting with a letter")
    percentiles = params.get("percentiles", "true")
    if percentiles not in ("true", "false"):
        raise BadRequestError("percentiles", f"{percentiles!r} is neither true nor false")
    return DailyQuery(plan, start, end, _limit(params, written), after, percentiles == "true"), written


def _range(params: Mapping[str, str], today: dt.date) -> tuple[dt.date, dt.date]:
    end = _day("to", params["to"]) if "to" in params else today + dt.timedelta(days=1)
    earliest = dt.date.fromordinal(max(1, end.toordinal() - DEFAULT_DAYS))
    start = _day("from", params["from"]) if "from" in params else earliest
    if start > end:
        raise BadRequestError("from", f"{start} is after `to`, {end}")
    return start, end


def _day(field: str, text: str) -> dt.date:
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError as e:
        raise BadRequestError(field, f"{text!r} is not a valid date: {e}") from e
    raise BadRequestError(field, f"{text!r} is not a date: write it as 2026-01-31")


def _moment(field: str, text: str) -> dt.datetime:
    try:
        if _MOMENT.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise BadRequestError(field, f"{text!r} is not a valid time: {e}") from e
    raise BadRequestError(field, f"{text!r} is not a UTC time: write it as 2026-01-31T12:00:00Z")


def _after(params: Mapping[str, str], parse: Callable[[str, str], T], example: str) -> tuple[T, int]:
    place, comma, number = params["after"].partition(",")
    if not comma:
        raise BadRequestError("after", f"is not a cursor returned by this endpoint, such as {example}")
    return parse("after", place), parse_int("after", number, MAX_TENANT)


def _limit(params: Mapping[str, str], written: Format) -> int:
    if written is not Format.JSON:
        if field := next((field for field in _PAGES if field in params), None):
            raise BadRequestError(field, "is allowed with JSON only: a download holds everything from `from` to `to`")
        return MAX_LIMIT
    return parse_int("limit", params.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)


def _format(params: Mapping[str, str], accept: str) -> Format:
    """The parameter `format` counts, where it is given, else the header Accept (RFC 9110, 12.5.1)."""
    if (name := params.get("format")) is not None:
        if name.upper() not in Format.__members__ or name != name.lower():
            raise BadRequestError("format", f"{name[:40]!r} is not a format; allowed: json, csv, parquet")
        if reason := _missing(Format[name.upper()]):
            raise BadRequestError("format", reason)
        return Format[name.upper()]
    ranges = [_accepted(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    weights = {written: _weight(written, dict(ranges)) for written in Format}
    reason = None
    for best in sorted(Format, key=lambda written: weights[written], reverse=True):
        if weights[best] <= 0:
            break
        if (reason := _missing(best)) is None:
            return best
    raise NotAcceptableError("Accept", reason or f"must allow one of {', '.join(Format)}")


def _missing(written: Format) -> str | None:
    """Why this installation cannot write the format; None where it can."""
    if written is Format.PARQUET:
        try:
            require("archive", "Parquet")
        except MissingExtraError as e:
            return str(e)
    return None


def _accepted(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    if not re.fullmatch(r"[01](\.\d{0,3})?", weight, re.ASCII):
        raise BadRequestError("Accept", f"{weight[:40]!r} is not a weight from 0 to 1")
    return name, float(weight)


def _weight(written: Format, ranges: Mapping[str, float]) -> float:
    """Returns the weight that the most specific media range gives the format, 0.0 if none matches."""
    return next((ranges[name] for name in (written, f"{written.split('/')[0]}/*", "*/*") if name in ranges), 0.0)
