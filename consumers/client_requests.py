"""What may be asked of `GET /clients`: pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from consumers.client_store import Cursor, Query
from consumers.parameters import BadRequestError, given, identifier, moment, segment, whole
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
    return segment("client_id", path)


def parse_dump(parameters: Iterable[tuple[str, str]]) -> Query:
    """Which of a client's data the parameters of a request name. Raises BadRequestError.

    >>> parse_dump([("from", "60"), ("to", "1970-01-01T00:02:00Z"), ("limit", "5")])
    Query(start=60000, end=120000, key=None, limit=5, cursor=None)
    """
    asked = given(parameters, _DUMP)
    start = moment("from", asked["from"], timestamp_ms) if "from" in asked else 0
    end = moment("to", asked["to"], timestamp_ms) if "to" in asked else Query.end
    if start > end:
        raise BadRequestError("from", f"{start} is after `to`, {end}")
    cursor = _cursor(asked["cursor"], Cursor) if "cursor" in asked else None
    key = identifier("key", asked["key"]) if "key" in asked else None
    return Query(start, end, key, _limit(asked), cursor)


def parse_list(parameters: Iterable[tuple[str, str]]) -> tuple[str | None, int]:
    """Behind which client the list begins, and how many. Raises BadRequestError."""
    asked = given(parameters, _LIST)
    return _cursor(asked["cursor"], str) if "cursor" in asked else None, _limit(asked)


def cursor_text(cursor: Cursor | str) -> str:
    """What a client sends back to get the rest."""
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _cursor(text: str, type_: type[T]) -> T:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=type_)
    except (Error, UnicodeError, msgspec.DecodeError) as e:
        raise BadRequestError("cursor", "is none that an answer here has given") from e


def _limit(asked: Mapping[str, str]) -> int:
    return whole("limit", asked.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)
