"""A record as a person or a program reads it: one line of text, or one JSON object. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from weir.schemas.times import readable


@dataclass(frozen=True)
class RecordView:
    """One record as it was read. `topic` is weir's name for it; `timestamp` is in epoch ms, None where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()

    def to_json(self) -> bytes:
        """One line of JSON. The value stands in it as JSON where it is JSON, else as text, else as {"base64": …}."""
        return orjson.dumps(
            {
                "topic": self.topic,
                "partition": self.partition,
                "offset": self.offset,
                "timestamp": None if self.timestamp is None else readable(self.timestamp),
                "key": text_or_base64(self.key),
                "value": json_or_text(self.value),
                "headers": {name: text_or_base64(value) for name, value in self.headers},
            }
        )

    def to_line(self) -> tuple[str, str]:
        """Two parts of a line for people: time and place; key and value, with nothing a terminal would act on."""
        time = "no time" if self.timestamp is None else readable(self.timestamp)
        key = "" if self.key is None else printable(self.key) + " "
        return f"{time} {self.partition}@{self.offset}", key + (
            "(no value)" if self.value is None else printable(self.value)
        )


def json_or_text(value: bytes | None) -> object:
    """Returns a value for orjson to write: its JSON unchanged, else its text, else {"base64": …}."""
    if value is None:
        return None
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return text_or_base64(value)
    # Within JSON a line break stands between tokens only, so that one line holds the same JSON.
    return orjson.Fragment(value.replace(b"\n", b" ").replace(b"\r", b" "))


def text_or_base64(value: bytes | None) -> object:
    """Text where the bytes are UTF-8, else {"base64": …}; None stays None."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def printable(value: bytes) -> str:
    r"""Text on one line, with everything that is not printable as an escape.

    >>> printable("für\n".encode() + b"\x1b\xff")
    'für\\n\\x1b\\xff'
    """
    text = value.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
