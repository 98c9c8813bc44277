"""The parameters of a request, out of its query and its path: what is the same for every route."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

from schemas.errors import WeirError
from schemas.links import check_id

#: As much of a text as an answer repeats, in characters.
_SHOWN = 40


class BadRequestError(WeirError):
    """A parameter cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"`{field}`: {reason}")
        self.field = field
        self.reason = reason


def given(parameters: Iterable[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """The parameters by their names. Raises BadRequestError for one that is not `known`, or is there twice."""
    found: dict[str, str] = {}
    for field, value in parameters:
        if field not in known:
            raise BadRequestError(field, f"there is no such parameter here; there are {', '.join(known)}")
        if field in found:
            raise BadRequestError(field, "is given more than once")
        found[field] = value
    return found


def whole(field: str, text: str, most: int) -> int:
    """A whole number from 1 to `most`. Raises BadRequestError.

    >>> whole("limit", "7", 1000)
    7
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= most):
        raise BadRequestError(field, f"{text[:_SHOWN]!r} is no whole number from 1 to {most}")
    return int(text)


def moment(field: str, text: str, read: Callable[[str], int]) -> int:
    """The time that `read` makes of the text, in epoch milliseconds. Raises BadRequestError, where that ValueError."""
    try:
        return read(text)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError(field, f"{e}{hint}") from e


def identifier(field: str, text: str) -> str:
    """An id or a type, as `schemas.links.check_id` has it. Raises BadRequestError."""
    try:
        return check_id(text, field)
    except ValueError as e:
        raise BadRequestError(field, str(e)) from e


def segment(field: str, path: str) -> str:
    """The id that is the second and last segment of a path as it was sent (nothing decoded). Raises BadRequestError.

    >>> segment("client_id", "/clients/a%2Fb%20c")
    'a/b c'
    """
    segments = path.split("/")[2:]
    if len(segments) != 1:
        raise BadRequestError(field, "is one segment of the path: a slash in it is written %2F")
    try:
        text = unquote(segments[0], errors="strict")
    except UnicodeDecodeError as e:
        raise BadRequestError(field, "is not percent-encoded UTF-8") from e
    return identifier(field, text)
