"""What may be asked of `GET /aggregates`: pure."""

from __future__ import annotations

from collections.abc import Iterable

from consumers.metric_minutes import MINUTES
from consumers.parameters import given, identifier, segment, whole

#: How many minutes are answered for where the request does not say.
DEFAULT_MINUTES = 60
_FIELDS = ("minutes", "event_type")


def type_of(path: str) -> str:
    """The event type that a request's path names, as it was sent (nothing in it decoded). Raises BadRequestError.

    >>> type_of("/aggregates/a%2Fb%20c")
    'a/b c'
    """
    return segment("event_type", path)


def parse(parameters: Iterable[tuple[str, str]], named: str | None = None) -> tuple[int, str | None]:
    """How many minutes the parameters of a request name, and which event type; None: all. Raises BadRequestError.

    `named`: the type that the path names, which is not a parameter then.

    >>> parse([("minutes", "5"), ("event_type", "login")]), parse([], "login")
    ((5, 'login'), (60, 'login'))
    """
    asked = given(parameters, _FIELDS if named is None else _FIELDS[:1])
    minutes = whole("minutes", asked.get("minutes", str(DEFAULT_MINUTES)), MINUTES)
    return minutes, identifier("event_type", asked["event_type"]) if "event_type" in asked else named
