"""Explains why an event is not valid JSON (NaN, Infinity, half a surrogate pair), and finds the field. Pure."""

from __future__ import annotations

import re

import msgspec

from weir.schemas.codec import BAD_INPUT
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError

#: A string that may be cut off, or a sign of structure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}:,]', re.DOTALL)
#: What some programs write for a number that JSON does not have.
_LITERAL = re.compile(rb"-?(?:NaN|Infinity)")
#: Half a surrogate pair, perhaps: JavaScript and Python write what is no character like this, and nobody can read it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: Two escapes: so far behind the first half of a pair it is noticed at most that the other is missing.
_PAIR = 12
_AT = re.compile(r"\(byte (\d+)\)")
_text = msgspec.json.Decoder(str).decode


def fault(text: bytes, detail: str) -> tuple[int, str] | None:
    """Finds the NaN, Infinity or half surrogate pair that msgspec stopped at; returns its byte and a description, else
    None.

    `detail` is what it said. None of it keeps others from telling where the event ends.

    >>> fault(b'{"a": NaN}', "invalid character (byte 6)"), fault(b'{"a" 1}', "expected ':' (byte 5)")
    ((6, 'NaN is not a JSON number'), None)
    """
    at = _where(detail, len(text))
    number = at - (text[max(0, at - 1) : at] == b"-")
    if found := _LITERAL.match(text, number):
        return number, f"{found[0].decode()} is not a JSON number"
    if found := _SURROGATE.search(text, max(0, at - _PAIR - 1)):
        return found.start(), f"{found[0].decode()} is half of a surrogate pair, not a character"
    return None


def field_and_fault(event: bytes, error: PoisonError) -> tuple[str | None, str]:
    """The field of an event that cannot be read, where it is in one, and what is wrong with it.

    >>> field_and_fault(b'{"a": 1, "value": [NaN]}', PoisonError(Reason.NOT_JSON, "invalid character (byte 19)"))
    ('value', 'NaN is not a JSON number')
    """
    if error.reason == Reason.NESTING:
        return field_at(event, None), error.detail
    if error.reason == Reason.NOT_UTF8:
        try:
            event.decode()
        except UnicodeDecodeError as e:
            return field_at(event, e.start), error.detail
    if found := fault(event, error.detail):
        return field_at(event, found[0]), found[1]
    return field_at(event, _where(error.detail, len(event))), error.detail


def field_at(event: bytes, at: int | None) -> str | None:
    """The event's own field whose value begins before that byte, or, for None, holds what is nested most deeply.

    >>> field_at(b'{"a": 1, "b": {"c": 2}}', 20), field_at(b'{"a": [], "b": [[]]}', None)
    ('b', 'b')
    """
    if event.lstrip()[:1] != b"{":
        return None
    depth = deepest = 0
    field = before = found = None
    for token in _TOKEN.finditer(event, 0, len(event) if at is None else at):
        sign = token[0]
        if sign in (b"{", b"["):
            depth += 1
            if depth > deepest:
                deepest, found = depth, field
        elif sign in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and sign != b":":
            field = None if sign == b"," else field
        elif depth == 1:
            field = before
        before = sign
    return _name(found if at is None else field)


def _name(field: bytes | None) -> str | None:
    try:
        return None if field is None else _text(field)
    except BAD_INPUT:
        return None


def _where(detail: str, end: int) -> int:
    """The byte that an error is at; where it says none, the text was too short."""
    found = _AT.search(detail)
    return int(found[1]) if found else end
