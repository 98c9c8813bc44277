"""A request's body as the events that are in it, each as its bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec

from weir.producers.ingest.json_errors import fault
from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.errors import WeirError

#: The most events of one request: each gets a verdict of its own.
MAX_EVENTS = 100_000
#: The longest event as it comes, spaces and unknown fields included, in bytes.
MAX_ELEMENT = 128 << 10
#: What an event takes in memory on top of the body's bytes while it is judged, in bytes.
EVENT_COST = 80
#: So many bytes of a body that is no JSON as a whole are looked at, then others get their turn.
_TURN = 32 << 10
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"

Raws = Sequence[msgspec.Raw | bytes]


class _Any(msgspec.Struct, gc=False):
    """Any object, whatever is in it."""


_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[_Any]).decode
_one = msgspec.json.Decoder(msgspec.Raw).decode
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb'[\[{](?:[^\[\]{}"]++|' + _STRING + rb")*+[\]}]"
#: What an array's elements are made of, the longest that is possible: brackets with no more than one level of brackets
#: in them, a string (which may be cut off), a sign of structure. So most elements are one piece.
_PIECE = re.compile(
    rb'[\[{](?:[^\[\]{}"]++|' + _STRING + b"|" + _FLAT + rb")*+[\]}]|" + _STRING + rb"?|[\[\]{},]", re.DOTALL
)


class BodyError(WeirError):
    """Raised when a body cannot be split into events. `status` is the HTTP status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def cost_of(body: bytes, lines: bool) -> int:
    """The most bytes that a body may take while it is judged: it, and each event's bytes by themselves."""
    return len(body) + EVENT_COST * min(1 + body.count(b"\n" if lines else b","), MAX_EVENTS)


async def events_in(body: bytes, lines: bool) -> Raws:
    """The events of a body: one JSON object, an array, or, with `lines`, one object per line (blank ones aside).

    What they are is not looked at; of an array each is JSON by itself, but for what `fault` finds in it, and for what
    is nested too deeply. Where there is any such the body is read once more: in turns with others, and each
    byte a few times at most, so that its cost grows with its length alone. Raises BodyError.
    """
    body = body.removeprefix(_BOM)
    start = body[:1] if body[:1] not in _BLANK else body.lstrip(_BLANK)[:1]
    if not start:
        raise BodyError("the body is empty")
    if lines:
        if body.count(b"\n") > MAX_EVENTS:
            raise BodyError(f"the body has more than {MAX_EVENTS} lines", 413)
        return [line for line in body.split(b"\n") if line and not line.isspace()]
    try:
        if start != b"[":
            _one(body)
            return [body]
        if body.count(b",") >= MAX_EVENTS and len(_objects(body)) > MAX_EVENTS:  # far cheaper than so many Raws
            raise BodyError(f"the body has more than {MAX_EVENTS} events", 413)
        found = _array(body)
    except BAD_INPUT as e:
        return await _one_by_one(body, start, e)
    if not found:
        raise BodyError("the list is empty")
    return found


async def _one_by_one(body: bytes, start: bytes, error: Exception) -> Raws:
    """The events of a body that is JSON but for a number or a character in some of them, or for their depth.

    Raises BodyError for any other.
    """
    whole = BodyError(_reason(body, error))
    if start == b"{" and _is_event(body):
        return [body]
    if start != b"[":
        raise whole from error
    found: list[bytes] = []
    begin = body.index(b"[") + 1
    depth, due = 1, _TURN
    for piece in _PIECE.finditer(body, begin):
        first, end = piece.span()
        if end >= due:
            due = end + _TURN
            await asyncio.sleep(0)
        sign = body[first:end] if end == first + 1 else b""
        if sign in (b"[", b"{"):
            depth += 1
        elif sign in (b"]", b"}") or (sign == b"," and depth == 1):
            if depth == 1:
                found.append(body[begin:first])
                begin = end
                if not _is_event(found[-1]):
                    raise whole from error
                if len(found) > MAX_EVENTS:
                    raise BodyError(f"the body has more than {MAX_EVENTS} events", 413)
            depth -= sign != b","
            if not depth:
                break
    if depth or body[begin:].strip(_BLANK):
        raise whole from error
    return found


def _is_event(element: bytes) -> bool:
    """Whether all that keeps it from being JSON concerns nobody else."""
    try:
        _one(element)
    except RecursionError:
        return True
    except BAD_INPUT as e:
        return fault(element, str(e)) is not None
    return True


def _reason(body: bytes, error: Exception) -> str:
    """Returns why a body as a whole cannot be parsed."""
    detail = poison(error).detail
    found = fault(body, detail)
    return detail if found is None else f"{found[1]} (byte {found[0]})"
