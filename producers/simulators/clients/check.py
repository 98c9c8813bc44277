"""Does the dump of a simulated client hold what it has sent, each event once? Pure."""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import msgspec

from weir.producers.simulators.clients.events import SimulatedRequest
from weir.schemas.fields import written
from weir.schemas.monitoring import EventType

#: So many refusals are told with their reason.
TOLD = 5
#: Sums are exact, or none.
_EXACT = decimal.Context(prec=500, traps=[decimal.Inexact, decimal.InvalidOperation])


class EventResult(msgspec.Struct, frozen=True):
    """Verdict on one event of a request, as weir answered it."""

    status: str
    event_id: str | None = None
    field: str | None = None
    reason: str | None = None


class SimulatedResponse(msgspec.Struct, frozen=True):
    """The body that `POST /events` answers with."""

    accepted: int
    duplicates: int
    refused: int
    events: list[EventResult]


class SeriesEvent(NamedTuple):
    """One event of a series. `value` is JSON in one certain form, so that equal values are equal bytes."""

    time: int
    value: bytes


class Gone(NamedTuple):
    """Events of a series that are no longer in memory: how many, and the time of the latest."""

    events: int
    until: int


@dataclass(frozen=True)
class Dump:
    """Data that weir holds of a client: sums, series as (event id, event) in order of arrival, and what was dropped
    (`gone`).
    """

    sums: dict[str, Decimal]
    series: dict[str, list[tuple[str, SeriesEvent]]]
    gone: dict[str, Gone] = field(default_factory=dict)


class SentByClient:
    """Events that one client has sent so far, and the answers to them.

    `events` counts each event once; `again` counts what was sent again on purpose, and `retries` requests that were
    sent again because of an error. `duplicates` is what the answers called so.
    """

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.events = self.again = self.retries = self.duplicates = 0
        self.refusals: list[str] = []
        self.sums: dict[str, Decimal] = {}
        self.series: dict[str, dict[str, SeriesEvent]] = {}
        self._unanswered: Counter[str] = Counter()

    def sending(self, request: SimulatedRequest) -> None:
        """The request is about to be sent for the first time."""
        self.events += len(request.new)
        self.again += len(request.copies)
        for event, time in request.new:
            self._unanswered[event.event_key] += 1
            if event.event_type is EventType.CUMULATIVE:
                value = msgspec.json.decode(event.event_value, type=Decimal)
                self.sums[event.event_key] = _EXACT.add(self.sums.get(event.event_key, Decimal(0)), value)
            else:
                found = SeriesEvent(time, in_one_form(event.event_value))
                self.series.setdefault(event.event_key, {})[event.event_id] = found

    def repeating(self, request: SimulatedRequest) -> None:
        """The request is about to be sent once more on purpose."""
        self.again += len(request.new) + len(request.copies)

    def answered(self, answer: SimulatedResponse) -> None:
        """An answer was read; all of the latest request is certain now, unless some of it was refused."""
        self.duplicates += answer.duplicates
        self.refusals += [f"`{v.field}` {v.reason}" for v in answer.events if v.status == "refused"]

    def settled(self, request: SimulatedRequest) -> None:
        """Records that every event of the request has its answer."""
        self._unanswered -= Counter(event.event_key for event, _ in request.new)

    @property
    def keys(self) -> set[str]:
        """Returns every key of which the client has sent an event."""
        return self.sums.keys() | self.series.keys()

    @property
    def in_doubt(self) -> set[str]:
        """The keys with events that were never answered: they may be there or not."""
        return set(self._unanswered)

    def differences(self, dump: Dump | None) -> list[str]:
        """How the dump differs from what was sent, a line per key; keys in doubt are left out."""
        dump = dump or Dump({}, {})
        found = list(self._wrong_sums(dump)) + list(self._wrong_series(dump))
        found += [f"{key}: was never sent" for key in sorted((dump.sums.keys() | dump.series.keys()) - self.keys)]
        found += [f"refused: {told}" for told in self.refusals[:TOLD]]
        return found

    def _wrong_sums(self, dump: Dump) -> Iterator[str]:
        for key in self.sums.keys() - self.in_doubt:
            there = dump.sums.get(key)
            if there != self.sums[key]:
                found = "nothing" if there is None else written(there)
                yield f"{key}: sent {written(self.sums[key])}, there is {found}"

    def _wrong_series(self, dump: Dump) -> Iterator[str]:
        for key in self.series.keys() - self.in_doubt:
            sent, there = self.series[key], dump.series.get(key, [])
            gone = dump.gone.get(key, Gone(0, -1))
            by_id = dict(there)
            absent = [sent[event_id].time for event_id in sent.keys() - by_id.keys()]
            missing = max(sum(time > gone.until for time in absent), len(absent) - gone.events)
            wrong = sum(sent.get(event_id) != event for event_id, event in by_id.items())
            twice = len(there) - len(by_id)
            if missing or wrong or twice:
                yield f"{key}: of {len(sent)} events {missing} are missing, {wrong} are wrong, {twice} are there twice"
            if any(a.time > b.time for (_, a), (_, b) in pairwise(there)):
                yield f"{key}: is not in order of time"


def in_one_form(value: bytes | msgspec.Raw) -> bytes:
    r"""JSON in one certain form: without blanks to spare, each number and text written in one way.

    >>> in_one_form(b'{"a" : [1.50, "\\u0041"]}')
    b'{"a":[1.5,"A"]}'
    """
    return msgspec.json.encode(msgspec.json.decode(value))
