"""The parameters of a request's query: each known, each given once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consumers.link_requests import BadRequestError


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
