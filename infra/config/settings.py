"""Declares settings: a field of a section, with its variable, default, parser and documentation in one place."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Section:
    """The settings of one component: a frozen dataclass whose fields the functions below declare, or are sections."""

    def check(self) -> None:
        """Raises ConfigError if settings of this section contradict each other."""

    def replace(self, **values: Any) -> Self:
        """Copies it with other values, given by variable: `config.replace(WEIR_PARTITIONS=1)`. Calls no `check`."""
        if unknown := values.keys() - {declared.variable for declared, _ in settings_of(self)}:
            raise TypeError(f"no setting of {type(self).__name__}: {', '.join(sorted(unknown))}")
        return self._replaced(values)

    def _replaced(self, values: Mapping[str, Any]) -> Self:
        changed = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Section):
                changed[field.name] = value._replaced(values)
            elif (variable := field.metadata["declared"].variable) in values:
                changed[field.name] = values[variable]
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Declared:
    """How one setting is read and shown: `parse` raises ValueError, `write` is its inverse.

    `above`: for a port, its place above `WEIR_PORT_BASE`.
    """

    variable: str
    parse: Callable[[str], Any]
    doc: str
    secret: bool = False
    write: Callable[[Any], str] = str
    above: int | None = None


def setting(variable: str, default: str | None, parse: Callable[[str], Any], doc: str, **more: Any) -> Any:
    """Declares a field that `variable` sets. `default` is written as in the environment; None: the field is None."""
    value = None if default is None else parse(default)
    return dataclasses.field(default=value, metadata={"declared": Declared(variable, parse, doc, **more)})


def whole(variable: str, default: int | None, low: int, high: int, doc: str) -> Any:
    """Declares a field with a whole number from `low` to `high`."""
    return setting(variable, None if default is None else str(default), whole_number(low, high), doc)


def duration(variable: str, default: str, doc: str, least: str = "0ms") -> Any:
    """Declares a field with a duration in milliseconds, which may not be shorter than `least`."""

    def parse(text: str) -> int:
        if (value := duration_ms(text)) < duration_ms(least):
            raise ValueError(f"must be at least {least}")
        return value

    return setting(variable, default, parse, doc, write=duration_text)


def port(variable: str, above: int, default: int, doc: str) -> Any:
    """Declares a field with a port: `default`, or `WEIR_PORT_BASE` + `above`, a place that no other port has."""
    return setting(variable, str(default), whole_number(1, 65535), doc, above=above)


def settings_of(section: Any) -> Iterator[tuple[Declared, Any]]:
    """Yields every setting of a section, and of the sections in it, with its value."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            yield from settings_of(value)
        else:
            yield field.metadata["declared"], value


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text.strip(), re.ASCII):
            raise ValueError("must be a whole number")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def duration_ms(text: str) -> int:
    """A duration such as `200ms`, `5s`, `10m`, `2h`, `1d`, in milliseconds. Raises ValueError.

    >>> duration_ms("1.5s"), duration_ms("10m")
    (1500, 600000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip(), re.ASCII)
    if not match:
        raise ValueError("write a duration as 200ms, 5s, 10m, 2h or 1d")
    return round(float(match[1]) * _UNITS[match[2]])


def duration_text(ms: int) -> str:
    """Milliseconds as `duration_ms` reads them, in the largest unit that holds them whole.

    >>> duration_text(300_000), duration_text(90_000), duration_text(200), duration_text(0)
    ('5m', '90s', '200ms', '0ms')
    """
    unit = next((u for u, size in sorted(_UNITS.items(), key=lambda item: -item[1]) if ms and ms % size == 0), "ms")
    return f"{ms // _UNITS[unit]}{unit}"
