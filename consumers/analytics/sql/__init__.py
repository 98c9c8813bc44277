"""The queries of the tenants' analytics, each in a file of its name."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def query(name: str) -> bytes:
    """The SQL in `<name>.sql`; its parameters are psycopg's, by name."""
    return resources.files(__name__).joinpath(f"{name}.sql").read_bytes()
