"""Registries: what exists once it is listed, and is imported once it is asked for.

A service then loads its own job or sink, and not those of all others.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from weir.infra.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Values by name. `kind` is what one is called in errors.

    `entries`: name to (`module:attribute`, description). A description completes "the service …" (`weir run --help`).
    """

    def __init__(self, kind: str, entries: Mapping[str, tuple[str, str]]) -> None:
        self._kind = kind
        self._values: dict[str, str | T] = {name: where for name, (where, _) in entries.items()}
        self._descriptions = {name: description for name, (_, description) in entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str) -> T:
        """Returns the value of that name, imported where it was not yet. Raises ConfigError where there is none."""
        if name not in self._values:
            known = ", ".join(self._values)
            raise ConfigError(f"unknown {self._kind} {name!r}; known {self._kind}s: {known}")
        value = self._values[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = self._values[name] = cast(T, getattr(import_module(module), attribute))
        return value

    def description(self, name: str) -> str:
        """Returns the description of the value of that name."""
        return self._descriptions[name]

    def register(self, name: str, value: T, *, replace: bool = False) -> None:
        """Adds a value; the first sentence of its docstring describes it. To add the same value again changes nothing.

        Raises ConfigError where another one has this name and is not to be replaced.
        """
        if name in self._values and not replace and self.get(name) is not value:
            raise ConfigError(f"two {self._kind}s have the name {name!r}: rename one")
        self._values[name] = value
        self._descriptions[name] = described(value)


def described(value: object) -> str:
    """Returns the first sentence of a docstring, as descriptions are written.

    >>> described(described)
    'returns the first sentence of a docstring, as descriptions are written'
    """
    first = (inspect.getdoc(value) or "is an app's").split(".")[0]
    return first[:1].lower() + first[1:]
