"""Ids that come from outside: opaque strings of 1 to 128 printable characters (`str.isprintable`)."""

from __future__ import annotations

from typing import Annotated

import msgspec

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


def check_id(value: str, field: str) -> str:
    """The id itself, or ValueError where it is not 1 to 128 printable characters."""
    if not 1 <= len(value) <= 128:
        raise ValueError(f"`{field}` has {len(value)} characters, 1 to 128 are allowed")
    if not value.isprintable():
        raise ValueError(f"`{field}` holds a character that is not printable")
    return value
