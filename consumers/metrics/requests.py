"""Parameters of `GET /aggregates`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from weir.consumers.metrics.minute_buckets import MINUTES
from weir.infra.http.parameters import parse_identifier, parse_int, parse_parameters, parse_segment
from weir.infra.http.waiting import WAITING

#: How many minutes are answered for where the request does not say.
DEFAULT_MINUTES = 60
_FIELDS = ("minutes", *WAITING)


def type_of(path: str) -> str:
    """The event type that a request's path names, as it was sent (nothing in it decoded). Raises BadRequestError.

    >>> type_of("/aggregates/a%2Fb%20c")
    'a/b c'
    """
    return parse_segment("event_type", path)


def parse(parameters: Iterable[tuple[str, str]], named: str | None = None) -> tuple[int, str | None]:
    """How many minutes the parameters of a request name, and which event type; None: all. Raises BadRequestError.

    `named`: the type that the path names, which is not a parameter then.

    >>> parse([("minutes", "5"), ("event_type", "login")]), parse([], "login")
    ((5, 'login'), (60, 'login'))
    """
    params = parse_parameters(parameters, ("event_type", *_FIELDS) if named is None else _FIELDS)
    minutes = parse_int("minutes", params.get("minutes", str(DEFAULT_MINUTES)), MINUTES)
    return minutes, parse_identifier("event_type", params["event_type"]) if "event_type" in params else named
