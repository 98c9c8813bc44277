"""Example messages per topic: what each topic accepts, and what it refuses with which reason.

They are the fixtures of tests, the examples in the reference, and what `weir produce` can be tried with. One file
`<topic>.json` per topic that has a type: `{"good": [value, …], "bad": [{…}, …]}`.
"""

from __future__ import annotations

import base64
from importlib import resources

import msgspec

from weir.schemas.dead_letters import Reason


class Bad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record that is refused, given as `value` (JSON), `text` (not JSON) or `base64` (not even text).

    `repeat` makes it large or deep without a large file: the text that stands for `…` is written that many times.
    """

    reason: Reason
    detail: str
    why: str
    value: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    base64: str | None = None
    repeat: tuple[str, int] | None = None

    def record(self) -> bytes:
        """The bytes as they would stand in a record."""
        if self.base64 is not None:
            return base64.b64decode(self.base64)
        raw = bytes(self.value) if self.text is None else self.text.encode()
        if self.repeat is not None:
            piece, times = self.repeat
            raw = raw.replace("…".encode(), piece.encode() * times)
        return raw


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One topic's examples."""

    good: list[msgspec.Raw]
    bad: list[Bad]

    def records(self) -> list[bytes]:
        """The good ones, as they would stand in records."""
        return [bytes(raw) for raw in self.good]


def load(topic: str) -> Examples:
    """The examples of the topic of that name. Raises FileNotFoundError where it has none."""
    return msgspec.json.decode(resources.files(__name__).joinpath(f"{topic}.json").read_bytes(), type=Examples)


def names() -> list[str]:
    """The topics that have examples, by name."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))
