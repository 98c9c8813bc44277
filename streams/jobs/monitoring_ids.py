"""The monitoring-ids job: of the events that clients send, each once, however often and wherever it comes.

An event's id is remembered from when it was accepted for `WEIR_MONITORING_DEDUP_RETENTION`, at most
`WEIR_MONITORING_DEDUP_CAPACITY` of them. That goes by the records' timestamps, not by the clients' clocks. An event
that is refused is not remembered: corrected, it may come with the same id.
"""

from __future__ import annotations

import msgspec

from weir.infra.config import Config
from weir.schemas.fields import exact, written
from weir.schemas.monitoring import EventType, MonitoringEvent, UniqueEvent, client_key, number_of
from weir.schemas.times import epoch_ms
from weir.schemas.topics import MONITORING_BY_ID, MONITORING_EVENTS, MONITORING_IDS, MONITORING_UNIQUE
from weir.streams.api import Context, Keyed, PoisonError, Reason


def unique(event: MonitoringEvent) -> UniqueEvent:
    """The event as those that follow see it: its time in ms, and a CUMULATIVE value as a plain JSON number."""
    value = event.event_value
    if event.event_type is EventType.CUMULATIVE:
        value = msgspec.Raw(written(exact(number_of(value))).encode())
    at = epoch_ms(event.event_timestamp)
    return UniqueEvent(event.client_id, event.event_id, at, event.event_type, event.event_key, value)


def job(config: Config) -> Keyed[MonitoringEvent, bool]:
    """Lets each event of a monitored client through once. An id's state is that it is there."""
    max_skew = config.monitoring.max_skew

    def process(ctx: Context[bool], event: MonitoringEvent) -> None:
        ahead = epoch_ms(event.event_timestamp) - ctx.timestamp
        if ahead > max_skew:
            raise PoisonError(Reason.TIMESTAMP, f"`event_timestamp` is {ahead} ms ahead of the record's timestamp")
        if ctx.state is None:
            ctx.state = True
            key = client_key(event.client_id, event.event_key)
            ctx.emit(MONITORING_UNIQUE, unique(event), key, timestamp=ctx.timestamp)

    return Keyed(
        name="monitoring-ids",
        source=MONITORING_EVENTS,
        repartition=MONITORING_BY_ID,
        changelog=MONITORING_IDS,
        state=bool,
        key=lambda event: event.event_id,
        process=process,
        ttl=config.monitoring.dedup_retention,
        capacity=config.monitoring.dedup_capacity,
        outputs=(MONITORING_UNIQUE,),
        max_skew=config.max_skew,
    )
