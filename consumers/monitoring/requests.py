"""Parameters of `GET /clients`. Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from weir.consumers.monitoring.clients import Cursor, Query
from weir.infra.http.parameters import (
    BadRequestError,
    parse_identifier,
    parse_int,
    parse_parameters,
    parse_segment,
    parse_time,
)
from weir.infra.http.waiting import WAITING
from weir.schemas.times import timestamp_ms

#: Events, or clients, in one page.
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000
_LIST = ("limit", "cursor", *WAITING)
_DUMP = ("from", "to", "key", *_LIST)

T = TypeVar("T")


def client_of(path: str) -> str:
    """The client that a request's path names, as it was sent (nothing in it decoded). Raises BadRequestError.

    >>> client_of("/clients/a%2Fb%20c")
    'a/b c'
    """
    return parse_segment("client_id", path)


def parse_dump(parameters: Iterable[tuple[str, str]]) -> Query:
    """Which of a client's data the parameters of a request name. Raises BadRequestError.

    >>> parse_dump([("from", "60"), ("to", "1970-01-01T00:02:00Z"), ("limit", "5")])
    Query(start=60000, end=120000, key=None, limit=5, cursor=None)
    """
    params = parse_parameters(parameters, _DUMP)
    start = parse_time("from", params["from"], timestamp_ms) if "from" in params else 0
    end = parse_time("to", params["to"], timestamp_ms) if "to" in params else Query.end
    if start > end:
        raise BadRequestError("from", f"{start} is after `to`, {end}")
    cursor = _cursor(params["cursor"], Cursor) if "cursor" in params else None
    key = parse_identifier("key", params["key"]) if "key" in params else None
    return Query(start, end, key, _limit(params), cursor)


def parse_list(parameters: Iterable[tuple[str, str]]) -> tuple[str | None, int]:
    """Behind which client the list begins, and how many. Raises BadRequestError."""
    params = parse_parameters(parameters, _LIST)
    return _cursor(params["cursor"], str) if "cursor" in params else None, _limit(params)


def cursor_text(cursor: Cursor | str) -> str:
    """Returns the text of a cursor, which a client sends back to get the next page."""
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _cursor(text: str, type_: type[T]) -> T:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=type_)
    except (Error, UnicodeError, msgspec.DecodeError) as e:
        raise BadRequestError("cursor", "is not a cursor returned by this endpoint") from e


def _limit(params: Mapping[str, str]) -> int:
    return parse_int("limit", params.get("limit", str(DEFAULT_LIMIT)), MAX_LIMIT)
