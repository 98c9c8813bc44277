"""What may be asked of `GET /clients`: pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from consumers.client_store import Cursor, Query
from consumers.link_requests import BadRequestError
from schemas.links import check_id
from schemas.times import timestamp_ms

#: Events, or clients, in one page.
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000
_LIST = ("limit", "cursor")
_DUMP = ("from", "to", "key", *_LIST)

T = TypeVar("T")


def client_of(path: str) -> str:
    """The client that a request's path names, as it was sent (nothing in it decoded). Raises BadRequestError.

    >>> client_of("/clients/a%2Fb%20c")
    'a/b c'
    """
    segments = path.split("/")[2:]
    if len(segments) != 1:
        raise BadRequestError("client_id", "is one segment of the path: a slash in it is written %2F")
    try:
        return check_id(unquote(segments[0], errors="strict"), "client_id")
    except UnicodeDecodeError as e:
        raise BadRequestError("client_id", "is not percent-encoded UTF-8") from e
    except ValueError as e:
        raise BadRequestError("client_id", str(e)) from e


def parse_dump(parameters: Iterable[tuple[str, str]]) -> Query:
    """Which of a client's data the parameters of a request name. Raises BadRequestError.

    >>> parse_dump([("from", "60"), ("to", "1970-01-01T00:02:00Z"), ("limit", "5")])
    Query(start=60000, end=120000, key=None, limit=5, cursor=None)
    """
    given = _given(parameters, _DUMP)
    start = _time("from", given["from"]) if "from" in given else 0
    end = _time("to", given["to"]) if "to" in given else Query.end
    if start > end:
        raise BadRequestError("from", f"{start} is after `to`, {end}")
    cursor = _cursor(given["cursor"], Cursor) if "cursor" in given else None
    return Query(start, end, _key(given), _limit(given), cursor)


def parse_list(parameters: Iterable[tuple[str, str]]) -> tuple[str | None, int]:
    """Behind which client the list begins, and how many. Raises BadRequestError."""
    given = _given(parameters, _LIST)
    return _cursor(given["cursor"], str) if "cursor" in given else None, _limit(given)


def cursor_text(cursor: Cursor | str) -> str:
    """What a client sends back to get the rest."""
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _cursor(text: str, type_: type[T]) -> T:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=type_)
    except (Error, UnicodeError, msgspec.DecodeError) as e:
        raise BadRequestError("cursor", "is none that an answer here has given") from e


def _given(parameters: Iterable[tuple[str, str]], known: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for field, value in parameters:
        if field not in known:
            raise BadRequestError(field, f"there is no such parameter; there are {', '.join(known)}")
        if field in given:
            raise BadRequestError(field, "is given more than once")
        given[field] = value
    return given


def _key(given: Mapping[str, str]) -> str | None:
    try:
        return check_id(given["key"], "key") if "key" in given else None
    except ValueError as e:
        raise BadRequestError("key", str(e)) from e


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise BadRequestError("limit", f"{text!r} is no whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _time(field: str, text: str) -> int:
    try:
        return timestamp_ms(text)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError(field, f"{e}{hint}") from e
