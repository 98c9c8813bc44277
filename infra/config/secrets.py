"""Hides what is secret in a setting's value."""

from __future__ import annotations

import re

#: A value in a `key=value` address of Postgres: in quotes or not, with characters escaped by a backslash.
_DSN_VALUE = r"(?:'(?:[^'\\]|\\.)*'?|(?:\\.|\S)+)"


def shown(address: str) -> str:
    """An address as people may see it: all that may be a secret is hidden.

    >>> shown("postgresql://me:p@ss@host/db?user=u&password=p"), shown("host=h password=p"), shown("wss://token@h/x")
    ('postgresql://me:***@host/db?user=***&password=***', 'host=h password=***', 'wss://***@h/x')
    """
    if "://" not in address:
        return re.sub(rf"(?i)(password|passfile|sslkey)(\s*=\s*){_DSN_VALUE}", r"\1\2***", address)
    scheme, rest = address.split("://", 1)
    place, *query = re.split(r"[?#]", rest)
    if any("@" in part for part in query):
        return f"{scheme}://***"  # a password may hold a ? or #, too: on which side the secret stands cannot be told
    if "@" in place:
        user, _, host = place.rpartition("@")
        name, colon, _ = user.partition(":")
        # A database's user is no secret; what stands alone before a feed's @ is a token.
        place = f"{name}{colon and ':***'}@{host}" if colon or scheme.startswith("postgres") else f"***@{host}"
    return f"{scheme}://{place}" + "".join("?" + "&".join(map(_hidden, part.split("&"))) for part in query)


def _hidden(parameter: str) -> str:
    """A query's parameter without its value; all of it hidden where it has no name."""
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals else "***"
