"""A request's body as the events that are in it, each as its bytes. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from schemas.codec import BAD_INPUT, poison
from schemas.errors import WeirError

#: The most events of one request: each gets a verdict of its own.
MAX_EVENTS = 100_000
#: Bodies up to this size are looked at again where they are no JSON as a whole, in bytes: it is slow.
_LOOKED_AT = 256 << 10
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"

Raws = Sequence[msgspec.Raw | bytes]


class _Any(msgspec.Struct, gc=False):
    """Any object, whatever is in it."""


_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[_Any]).decode
_one = msgspec.json.Decoder(msgspec.Raw).decode
#: A string that may be cut off, a sign of structure, or what is written for a number that JSON does not have.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}:,]|-?Infinity|NaN', re.DOTALL)
#: Half a surrogate pair, perhaps: JavaScript and Python write what is no character like this, and nobody can read it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_AT = re.compile(r"\(byte (\d+)\)")


class BodyError(WeirError):
    """No events can be told apart in the body. `status` is HTTP's."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def events_in(body: bytes, lines: bool) -> Raws:
    """The events of a body: one JSON object, an array, or, with `lines`, one object per line (blank ones aside).

    What they are is not looked at; of an array each is JSON by itself, but for what `literal` finds in it, for
    half a surrogate pair, and for what is nested too deeply. Raises BodyError.
    """
    body = body.removeprefix(_BOM)
    start = body[:1] if body[:1] not in _BLANK else body.lstrip(_BLANK)[:1]
    if not start:
        raise BodyError("the body is empty")
    if lines:
        if body.count(b"\n") > MAX_EVENTS:
            raise BodyError(f"there are more than {MAX_EVENTS} lines in the body", 413)
        return [line for line in body.split(b"\n") if line and not line.isspace()]
    try:
        if start != b"[":
            _one(body)
            return [body]
        if body.count(b",") >= MAX_EVENTS and len(_objects(body)) > MAX_EVENTS:  # far cheaper than so many Raws
            raise BodyError(f"there are more than {MAX_EVENTS} events in the body", 413)
        found = _array(body)
    except BAD_INPUT as e:
        return _one_by_one(body, start, e)
    if not found:
        raise BodyError("the list is empty")
    return found


def literal(event: bytes) -> tuple[str | None, str] | None:
    """The NaN or Infinity in an event, as some programs write them, and the event's field that it is in.

    >>> literal(b'{"a": 1, "value": [NaN]}'), literal(b'{"a": "NaN"}')
    (('value', 'NaN'), None)
    """
    depth, before, field = 0, b"", None
    for token in _TOKEN.findall(event):
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif token == b":" and depth == 1:
            field = before
        elif token[:1] in b"NI-":
            return (field.strip(b'"').decode(errors="replace") if field is not None else None), token.decode()
        before = token
    return None


def _one_by_one(body: bytes, start: bytes, error: Exception) -> Raws:
    """The events of a body that is JSON but for a number or a character in some of them, or for their depth.

    Raises BodyError for any other.
    """
    whole = BodyError(_reason(body, error))
    if start not in (b"[", b"{") or len(body) > _LOOKED_AT:
        raise whole from error
    found = [body] if start == b"{" else _cut(body)
    for event in found:
        try:
            _one(event)
        except RecursionError:
            continue
        except BAD_INPUT:
            if literal(event) is None and not _SURROGATE.search(event):
                raise whole from error
    if not found:
        raise whole from error
    return found


def _cut(body: bytes) -> list[bytes]:
    """The elements of an array, by brackets and quotes alone; none where these do not match up."""
    depth, begin = 0, 0
    found: list[bytes] = []
    for token in _TOKEN.finditer(body):
        sign = token[0]
        if sign in (b"[", b"{"):
            depth += 1
            begin = token.end() if depth == 1 else begin
        elif (sign == b"," and depth == 1) or sign in (b"]", b"}"):
            if depth == 1:
                found.append(body[begin : token.start()])
                begin = token.end()
            depth -= sign != b","
            if depth == 0:
                return found if not body[token.end() :].strip(_BLANK) else []
    return []


def _reason(body: bytes, error: Exception) -> str:
    """What is wrong with a body as a whole."""
    detail = poison(error).detail
    at = _AT.search(detail)
    if at is not None and (token := _TOKEN.match(body, int(at[1]))) and token[0][:1] in b"NI-":
        return f"{token[0].decode()} is no number in JSON (byte {at[1]})"
    return detail
