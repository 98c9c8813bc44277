"""Where refused input goes: the reason, the place it came from, and its bytes as they were.

A `dead-letters` record's value and key are the refused bytes themselves, so that a replay is exact; all else is in
its headers (text, UTF-8). A `late-events` record has the same form.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

Headers = list[tuple[str, bytes]]

PREFIX = "weir."


class Reason(enum.StrEnum):
    """Why a message is refused. One word, stable: dashboards and `weir dead-letters list --reason` rely on it."""

    NOT_JSON = "not-json"
    NOT_UTF8 = "not-utf8"
    INVALID = "invalid"
    EMPTY = "empty"
    NESTING = "nesting"
    TOO_LARGE = "too-large"
    UNKNOWN_CHILD = "unknown-child"
    UNKNOWN_TENANT = "unknown-tenant"
    TIMESTAMP = "timestamp"
    LATE = "late"
    KEY_TYPE = "key-type"

    @property
    def meaning(self) -> str:
        """Returns the meaning of the reason in a sentence, for the reference."""
        return _MEANINGS[self]


_MEANINGS = {
    Reason.NOT_JSON: "The bytes are not JSON, or JSON that is cut off.",
    Reason.NOT_UTF8: "A text in it is not UTF-8.",
    Reason.INVALID: "It is JSON, but not what the topic holds: a field is missing, or has the wrong type or value.",
    Reason.EMPTY: "There is nothing in it: no value, or an empty list.",
    Reason.NESTING: "It is nested too deeply.",
    Reason.TOO_LARGE: "It is larger than the topic takes.",
    Reason.UNKNOWN_CHILD: "It names a child that no relation has declared. It can be replayed once one has.",
    Reason.UNKNOWN_TENANT: "It names a tenant that is not in table `tenants`. It can be replayed once it is.",
    Reason.TIMESTAMP: (
        "Its time is missing, negative, or ahead of the clock by more than `WEIR_MAX_SKEW`; of a tenant's event also: "
        "ahead by more than `WEIR_ANALYTICS_MAX_SKEW`, or behind by more than `WEIR_ANALYTICS_MAX_AGE`."
    ),
    Reason.LATE: "It is older than its partition's watermark by more than the retention (topic `late-events`).",
    Reason.KEY_TYPE: "It is of the other kind (CUMULATIVE, TIME-SERIES) than its client's key is.",
}


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a refused message came from, and why it was refused.

    `source` is a topic, or a feed's URL; `partition` is absent for a feed, whose `offset` counts its messages from
    the connection's first (0). `element` is the place within an array (0 is the first), absent where the whole
    record was refused. `timestamp` is the record's own, in epoch milliseconds. `size` is the length of the whole
    message in bytes where only its beginning could be kept. `replayed_from` names the dead letter
    ("partition/offset") that this message was replayed from, where it was.
    """

    reason: str
    detail: str
    source: str
    offset: int
    partition: int | None = None
    element: int | None = None
    timestamp: int | None = None
    size: int | None = None
    job: str | None = None
    replayed_from: str | None = None


def to_headers(origin: Origin) -> Headers:
    """`Origin` as Kafka headers: `weir.reason`, `weir.detail`, `weir.source`, `weir.offset`, …"""
    fields: dict[str, object] = msgspec.to_builtins(origin)
    return [(PREFIX + name, str(value).encode()) for name, value in fields.items() if value is not None]


def from_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Origin:
    """The `Origin` in a record's headers; raises msgspec.ValidationError where they are not a dead letter's."""
    fields = {
        name.removeprefix(PREFIX): value.decode(errors="replace")
        for name, value in headers or ()
        if name.startswith(PREFIX) and value is not None
    }
    return msgspec.convert(fields, Origin, strict=False)


#: The header that a replayed dead letter carries into its topic: it is a new acceptance that names its origin.
REPLAYED_FROM = PREFIX + "replayed_from"


class Replay(msgspec.Struct, frozen=True):
    """One replay of one dead letter: which ("partition/offset"), to which topic, when (RFC 3339).

    Topic `dead-letter-replays`, written in the Kafka transaction that writes the replayed record, so that what is
    marked as replayed was, and the other way round.
    """

    position: str
    topic: str
    at: str
