"""The database of monitored clients as a view: filled from monitoring-totals and monitoring-series.

Measured on 2026-11-21 on two cores that others used, too, with `python -m benchmarks.clients_api`: a million events are
read back in 10 s. Who asks for a small client meanwhile waits 3 ms (99th percentile 32), while others take dumps of
10 000 events 3 ms (31), and alone 1 ms (36).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from confluent_kafka import Message

from weir.consumers.monitoring.clients import ClientStore, Query
from weir.consumers.monitoring.series import Place, pack
from weir.consumers.views.view import TopicView
from weir.infra.config import Config
from weir.infra.progress.chain import Chain
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.fields import SUM_DIGITS, exact, written
from weir.schemas.monitoring import ClientTotal, EventType, MonitoringEvent, UniqueEvent, number_of
from weir.schemas.topics import MONITORING_SERIES, MONITORING_TOTALS

#: What is read.
TOPICS = (MONITORING_TOTALS, MONITORING_SERIES)
CHAIN = Chain((), [topic.name for topic in TOPICS])

#: Client, key, and either the place and the packed event, or None and the total as it is shown.
Element = tuple[str, str, Place | None, bytes]

_DECODERS = {topic.name: cast(Any, topic.decoder()) for topic in TOPICS}
_TOTAL = b'{"event_type":"CUMULATIVE","event_value":%b,"events":%d,"event_timestamp":%d}'
#: A place in a series is told by offset and partition: no topic has more partitions.
_PARTITION_BITS = 16


class ClientView(TopicView[Element]):
    """Clients' data, as far as the jobs have written it. Of one event loop; see `TopicView` for how it lives.

    `chain` says how events come into its topics; by default nothing of that is known.
    """

    def __init__(self, config: Config, chain: Chain = CHAIN) -> None:
        self.store = ClientStore(config.monitoring.series_memory)
        super().__init__(config, TOPICS, chain)

    def facts(self) -> dict[str, int]:
        """Returns how much the view holds and has read, for the status file."""
        return self.store.facts() | super().facts()

    def check_kind(self, event: MonitoringEvent) -> None:
        """Raises ValueError for an event of one kind to a key that is known to be of the other."""
        kind = self.store.kind(event.client_id, event.event_key)
        if kind is not None and kind is not event.event_type:
            raise ValueError(f"`event_type` is {event.event_type.value}, and this client's key is {kind.value}")

    def decode(self, topic: str, record: Message) -> Element:
        """Returns a record as the store takes it. Raises PoisonError for what no job of weir writes."""
        return decode(topic, record)

    def clear(self) -> None:
        """Forgets all clients."""
        self.store.clear()

    def apply(self, element: Element) -> None:
        """Stores a total, or an event of a series."""
        client_id, key, place, data = element
        if place is None:
            self.store.total(client_id, key, data)
        else:
            self.store.event(client_id, key, place, data)


def decode(topic: str, message: Message) -> Element:
    """Decodes a record for the store. Raises PoisonError for a record that no job of weir writes."""
    value = message.value()
    if value is None:
        raise PoisonError(Reason.EMPTY, "the record has no value")
    found: ClientTotal | UniqueEvent = _DECODERS[topic].one(value)
    time = found.event_timestamp
    if not 0 <= time < Query.end:
        raise PoisonError(Reason.INVALID, f"`event_timestamp` {time} is not a valid time")
    if isinstance(found, ClientTotal):
        number = written(exact(number_of(found.event_value), SUM_DIGITS))
        return found.client_id, found.event_key, None, _TOTAL % (number.encode(), found.events, time)
    if found.event_type is not EventType.TIME_SERIES:
        raise PoisonError(Reason.INVALID, "`event_type` of an event in a series must be TIME-SERIES")
    offset, partition = cast(tuple[int, int], (message.offset(), message.partition()))
    place = time, offset << _PARTITION_BITS | partition
    packed = pack(place, msgspec.json.encode(found.event_id), bytes(found.event_value))
    return found.client_id, found.event_key, place, packed
