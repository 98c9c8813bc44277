"""Events set aside: dead letters and late events, with where they came from and why."""

from __future__ import annotations

from schemas.dead_letters import REPLAYED_FROM, Headers, Origin, to_headers
from schemas.errors import PoisonError
from streams.engine.records import Produce, Record


def set_aside(
    topic: str, source: str, job: str, record: Record, raw: bytes, element: int | None, why: PoisonError
) -> Produce:
    """The record for `topic` (dead letters or late events) that holds `raw`, element `element` of `record`."""
    origin = Origin(
        reason=why.reason,
        detail=why.detail,
        source=source,
        partition=record.partition(),
        offset=record.offset(),
        element=element,
        timestamp=record.timestamp()[1],
        job=job,
        replayed_from=_replayed_from(record.headers()),
    )
    return Produce(topic, raw, record.key(), headers=to_headers(origin))


def _replayed_from(headers: Headers | None) -> str | None:
    return next((value.decode(errors="replace") for name, value in headers or () if name == REPLAYED_FROM), None)
