"""WebSocket frames as bytes (RFC 6455, section 5): what a server writes, and unmasking what it reads."""

from __future__ import annotations

import struct

import numpy as np

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: The most bytes that a control frame carries (5.5), and those that a close frame's reason may have.
MAX_CONTROL = 125
MAX_REASON = MAX_CONTROL - 2

_FIN = 0x80
#: From so many bytes on numpy is faster than a Python integer.
_NUMPY_FROM = 600


def text(data: bytes) -> bytes:
    """An unfragmented text message. `data` is valid UTF-8."""
    return frame(TEXT, data)


def binary(data: bytes) -> bytes:
    """An unfragmented binary message."""
    return frame(BINARY, data)


def close(code: int | None = None, reason: str = "") -> bytes:
    """A close frame; a reason that is too long is cut between two characters. Without a code it is empty."""
    if code is None:
        return frame(CLOSE, b"")
    cut = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + cut)


def frame(opcode: int, data: bytes) -> bytes:
    """One unmasked final frame, as servers send them (5.1).

    >>> frame(TEXT, b"hi")
    b'\\x81\\x02hi'
    """
    size = len(data)
    if size < 126:
        return bytes((_FIN | opcode, size)) + data
    if size < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + data
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + data


def unmask(data: bytes, mask: bytes) -> bytes:
    """`data` with the 4 bytes of `mask` taken off (5.3); `data` starts where the mask does.

    >>> unmask(unmask(b"hello", b"abcd"), b"abcd")
    b'hello'
    """
    size = len(data)
    key = (mask * ((size >> 2) + 1))[:size]
    if size < _NUMPY_FROM:
        return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
    return (np.frombuffer(data, np.uint8) ^ np.frombuffer(key, np.uint8)).tobytes()
