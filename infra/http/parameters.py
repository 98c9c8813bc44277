"""The parameters of a request, out of its query and its path: what is the same for every route."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

from weir.schemas.errors import WeirError
from weir.schemas.fields import check_id

#: As much of a text as an answer repeats, in characters.
_SHOWN = 40


class BadRequestError(WeirError):
    """A parameter cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"`{field}`: {reason}")
        self.field = field
        self.reason = reason


def parse_parameters(parameters: Iterable[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """Returns the parameters by name. Raises BadRequestError for one that is not `known`, or is given twice."""
    found: dict[str, str] = {}
    for field, value in parameters:
        if field not in known:
            raise BadRequestError(field, f"unknown query parameter; allowed: {', '.join(known)}")
        if field in found:
            raise BadRequestError(field, "is given more than once")
        found[field] = value
    return found


def parse_int(field: str, text: str, most: int) -> int:
    """Parses a whole number from 1 to `most`. Raises BadRequestError.

    >>> parse_int("limit", "7", 1000)
    7
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= most):
        raise BadRequestError(field, f"{text[:_SHOWN]!r} is not a whole number from 1 to {most}")
    return int(text)


def parse_time(field: str, text: str, read: Callable[[str], int]) -> int:
    """Parses a time by `read`, in epoch milliseconds. Raises BadRequestError where `read` raises ValueError."""
    try:
        return read(text)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError(field, f"{e}{hint}") from e


def parse_identifier(field: str, text: str) -> str:
    """Checks an id or a type by `weir.schemas.fields.check_id` and returns it. Raises BadRequestError."""
    try:
        return check_id(text, field)
    except ValueError as e:
        raise BadRequestError(field, str(e)) from e


def parse_segment(field: str, path: str) -> str:
    """Parses the id in the second and last segment of a path as it was sent (nothing decoded). Raises BadRequestError.

    >>> parse_segment("client_id", "/clients/a%2Fb%20c")
    'a/b c'
    """
    segments = path.split("/")[2:]
    if len(segments) != 1:
        raise BadRequestError(field, "must be one segment of the path: write a slash in it as %2F")
    try:
        text = unquote(segments[0], errors="strict")
    except UnicodeDecodeError as e:
        raise BadRequestError(field, "is not percent-encoded UTF-8") from e
    return parse_identifier(field, text)
