"""Reading a server's frames, for tests."""

from __future__ import annotations

from collections.abc import Iterator


def unframed(stream: bytes) -> Iterator[bytes]:
    """The payloads of whole unfragmented frames."""
    at = 0
    while at < len(stream):
        size, at = stream[at + 1], at + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size, at = int.from_bytes(stream[at : at + wide], "big"), at + wide
        yield stream[at : at + size]
        at += size
