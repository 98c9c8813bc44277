"""Events set aside: dead letters and late events, with where they came from and why."""

from __future__ import annotations

from weir.schemas.dead_letters import REPLAYED_FROM, Headers, Origin, to_headers
from weir.schemas.errors import PoisonError
from weir.schemas.topic import MAX_DEAD_LETTER
from weir.streams.engine.core.records import Produce, Record

#: How much of a value and of a key is kept: with the headers it stays below the topics' limit.
KEPT_KEY = 32 << 10
KEPT = MAX_DEAD_LETTER - 2 * KEPT_KEY


def to_dead_letter(
    topic: str, source: str, job: str, record: Record, raw: bytes, element: int | None, why: PoisonError
) -> Produce:
    """The record for `topic` (dead letters or late events) that holds `raw`, element `element` of `record`.

    What the topic could not take, which a producer that compresses well can send, is cut, and `Origin.size` says so.
    """
    origin = Origin(
        reason=why.reason,
        detail=why.detail,
        source=source,
        partition=record.partition(),
        offset=record.offset(),
        element=element,
        timestamp=record.timestamp()[1],
        size=len(raw) if len(raw) > KEPT else None,
        job=job,
        replayed_from=_replayed_from(record.headers()),
    )
    key = record.key()
    return Produce(topic, raw[:KEPT], key and key[:KEPT_KEY], headers=to_headers(origin))


def _replayed_from(headers: Headers | None) -> str | None:
    return next(
        (
            value.decode(errors="replace")
            for name, value in headers or ()
            if name == REPLAYED_FROM and value is not None
        ),
        None,
    )
