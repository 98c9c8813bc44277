"""What may be asked of `GET /aggregates`: pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from consumers.link_requests import BadRequestError
from consumers.metric_minutes import MINUTES
from consumers.parameters import given as parameters_given
from schemas.links import check_id

#: How many minutes are answered for where the request does not say.
DEFAULT_MINUTES = 60
_FIELDS = ("minutes", "event_type")


def type_of(path: str) -> str:
    """The event type that a request's path names, as it was sent (nothing in it decoded). Raises BadRequestError.

    >>> type_of("/aggregates/a%2Fb%20c")
    'a/b c'
    """
    segments = path.split("/")[2:]
    if len(segments) != 1:
        raise BadRequestError("event_type", "is one segment of the path: a slash in it is written %2F")
    try:
        return _event_type(unquote(segments[0], errors="strict"))
    except UnicodeDecodeError as e:
        raise BadRequestError("event_type", "is not percent-encoded UTF-8") from e


def parse(parameters: Iterable[tuple[str, str]], named: str | None = None) -> tuple[int, str | None]:
    """How many minutes the parameters of a request name, and which event type; None: all. Raises BadRequestError.

    `named`: the type that the path names, which is not a parameter then.

    >>> parse([("minutes", "5"), ("event_type", "login")]), parse([], "login")
    ((5, 'login'), (60, 'login'))
    """
    known = _FIELDS if named is None else _FIELDS[:1]
    given = parameters_given(parameters, known)
    text = given.get("minutes", str(DEFAULT_MINUTES))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MINUTES):
        raise BadRequestError("minutes", f"{text!r} is no whole number from 1 to {MINUTES}")
    return int(text), _event_type(given["event_type"]) if "event_type" in given else named


def _event_type(text: str) -> str:
    try:
        return check_id(text, "event_type")
    except ValueError as e:
        raise BadRequestError("event_type", str(e)) from e
