"""Monitoring: what clients tell of themselves, and what comes of it.

An event is told apart by its `event_id`, whoever sends it, so it counts once however often it comes. CUMULATIVE values
add up per client and key, TIME-SERIES events are kept one by one. A key of a client is of one kind, that of its first
event.
"""

from __future__ import annotations

import enum
import re

import msgspec
import orjson

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.fields import SUM_DIGITS, check_id, exact
from weir.schemas.times import epoch_ms

#: The longest event, in bytes.
MAX_EVENT = 64 << 10
#: How deeply a value may be nested: whoever reads it has a stack, too, and not all have the same.
MAX_NESTING = 100

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OPEN, _CLOSE = b"[{", b"]}"
_any = msgspec.json.Decoder().decode


class EventType(enum.Enum):
    """How an event's value is used: CUMULATIVE values are added up, TIME-SERIES values are kept one by one."""

    CUMULATIVE = "CUMULATIVE"
    TIME_SERIES = "TIME-SERIES"


class MonitoringEvent(msgspec.Struct, frozen=True):
    """One event as a client sends it. Topic `monitoring-events`. Unknown fields are ignored.

    `event_timestamp` is an epoch in seconds or milliseconds, a number or a numeric text
    (`weir.schemas.times.epoch_ms`). `event_value` is a number or a numeric text, of a TIME-SERIES event any JSON.
    """

    client_id: str
    event_id: str
    event_timestamp: int | float | str
    event_type: EventType
    event_key: str
    event_value: msgspec.Raw


class UniqueEvent(msgspec.Struct, frozen=True):
    """An event that was not there before. Topics `monitoring-unique`, and `monitoring-series` where it is of a series.

    `event_timestamp` is in epoch milliseconds; `event_value` of a CUMULATIVE event is a JSON number.
    """

    client_id: str
    event_id: str
    event_timestamp: int
    event_type: EventType
    event_key: str
    event_value: msgspec.Raw


class ClientTotal(msgspec.Struct, frozen=True):
    """Exact sum of the CUMULATIVE events of one client and key. Topic `monitoring-totals`.

    The latest record per key is the truth. `event_timestamp` is the latest of its events', in epoch milliseconds.
    """

    client_id: str
    event_key: str
    event_value: msgspec.Raw
    events: int
    event_timestamp: int


def client_key(client_id: str, event_key: str) -> bytes:
    """The key of all that belongs to one client and key: a JSON array, since an id may hold any printable separator.

    >>> client_key("c", "cpu")
    b'["c","cpu"]'
    """
    return msgspec.json.encode((client_id, event_key))


def number_of(value: msgspec.Raw) -> str:
    """The text of a JSON number, or of a JSON text. Raises ValueError where it is neither."""
    raw = bytes(value).strip()
    if raw[:1] == b'"':
        text: str = _any(raw)
        return text
    if raw[:1] in b"-0123456789" and raw:
        return raw.decode()
    raise ValueError("is neither a number nor a numeric text")


def check_event(event: MonitoringEvent) -> None:
    """Raises ValueError, which names the field, for what the type allows and monitoring does not; PoisonError for a
    value that is nested too deeply.
    """
    check_id(event.client_id, "client_id")
    check_id(event.event_id, "event_id")
    check_id(event.event_key, "event_key")
    try:
        epoch_ms(event.event_timestamp)
    except ValueError as e:
        raise ValueError(f"`event_timestamp` {e}") from e
    if len(event.event_value) > MAX_EVENT:
        raise ValueError(f"`event_value` has {len(event.event_value)} bytes, more than {MAX_EVENT}")
    if event.event_type is EventType.CUMULATIVE:
        try:
            exact(number_of(event.event_value))
        except (ValueError, msgspec.DecodeError) as e:
            raise ValueError(f"`event_value` {e}") from e
    else:
        check_json(event.event_value, "event_value")


def check_json(value: msgspec.Raw, field: str) -> None:
    """Raises ValueError for a value that not everybody can read, such as a number that no double holds (1e400), and
    PoisonError for one that is nested too deeply.
    """
    raw = bytes(value)
    if _nesting(raw) > MAX_NESTING:
        raise PoisonError(Reason.NESTING, f"`{field}` is nested more than {MAX_NESTING} deep")
    try:
        raw.decode()
    except UnicodeDecodeError as e:
        raise PoisonError(Reason.NOT_UTF8, f"`{field}` is not UTF-8: {e.reason} at byte {e.start}") from e
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise ValueError(f"`{field}` cannot be read: {e.msg}") from e


def _nesting(raw: bytes) -> int:
    """How deeply a JSON value is nested, or more where it is surely within the limit."""
    if (most := raw.count(b"[") + raw.count(b"{")) <= MAX_NESTING:
        return most
    depth = deepest = 0
    for byte in _STRING.sub(b"", raw):
        if byte in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif byte in _CLOSE:
            depth -= 1
    return deepest


def check_unique(event: UniqueEvent) -> None:
    """Raises ValueError for what the type allows and monitoring does not."""
    check_id(event.client_id, "client_id")
    check_id(event.event_id, "event_id")
    check_id(event.event_key, "event_key")
    check_json(event.event_value, "event_value")


def check_total(total: ClientTotal) -> None:
    """Raises ValueError for what the type allows and monitoring does not."""
    check_id(total.client_id, "client_id")
    check_id(total.event_key, "event_key")
    exact(number_of(total.event_value), SUM_DIGITS)
    if total.events < 1:
        raise ValueError(f"`events` is {total.events}, at least 1 is needed")
