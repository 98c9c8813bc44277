"""Events of simulated clients, some of them sent again on purpose. Pure; the same seed gives the same events."""

from __future__ import annotations

import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

import msgspec

from weir.infra.errors import ConfigError
from weir.schemas.monitoring import EventType, MonitoringEvent

#: So many of a client's latest events may be sent again.
REMEMBERED = 200
#: The most events that are new in one request.
MOST = 100
#: How far an event's time may be behind the moment it is sent, in milliseconds: series do not come in order.
BEHIND_MS = 3_000
#: How often a request holds events that were sent before; is sent twice; is sent again because its answer was not read.
COPIES, TWICE, UNHEARD = 0.2, 0.06, 0.04


class Form(Enum):
    """How a body is written."""

    OBJECT = "application/json"
    ARRAY = "application/json; charset=utf-8"
    LINES = "application/x-ndjson"


class Repeat(Enum):
    """Whether a request is sent again although nothing went wrong."""

    NO = "no"
    #: After its answer.
    ANSWERED = "answered"
    #: After its connection was closed without reading the answer.
    UNHEARD = "unheard"


class SimulatedEvent(NamedTuple):
    """One event as it is sent, and its time in epoch milliseconds, in whatever form it is sent."""

    sent: MonitoringEvent
    time: int


class SimulatedRequest(NamedTuple):
    """One request. `due`: milliseconds after the start. `copies`: events that were sent before, after those `new`."""

    due: int
    form: Form
    new: tuple[SimulatedEvent, ...]
    copies: tuple[MonitoringEvent, ...]
    repeat: Repeat

    def body(self) -> bytes:
        """The body, as the form writes it."""
        events = [msgspec.json.encode(event) for event in (*(e.sent for e in self.new), *self.copies)]
        if self.form is Form.ARRAY:
            return b"[" + b",".join(events) + b"]"
        return b"\n".join(events)


@dataclass(frozen=True)
class SimulatedClient:
    """One client, the `number`-th of a simulation with this `seed`.

    `start`: when the simulation begins, in epoch milliseconds. Ids differ from start to start, so that the same seed
    can be used again on the same weir; all else is the same. `rate`: new events per second; `duration`: seconds,
    None: without end. Raises ConfigError for a rate or a duration that is none.
    """

    seed: int
    number: int
    start: int
    rate: float
    duration: float | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0 or (self.duration is not None and not self.duration > 0):
            raise ConfigError("simulated clients need a rate and a duration above 0")

    @property
    def client_id(self) -> str:
        """Its id, a UUID."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"weir {self.seed}/{self.number}/{self.start}"))

    def requests(self) -> Iterator[SimulatedRequest]:
        """Yields the client's requests in order; the first events cover all its keys."""
        rng = random.Random(f"{self.seed}/{self.number}")
        batch = max(1, min(MOST, int(self.rate / 2)))
        recent: deque[MonitoringEvent] = deque(maxlen=REMEMBERED)
        sent = 0
        while True:
            count = rng.randint(1, batch)
            due = round((sent + count) * 1000 / self.rate)
            if self.duration is not None and due > self.duration * 1000:
                return
            new = tuple(self._event(rng, sent + n, due) for n in range(count))
            answered = list(recent)
            recent.extend(event.sent for event in new)
            copies = tuple(_copies(rng, answered, list(recent))) if rng.random() < COPIES else ()
            forms = (Form.ARRAY, Form.LINES) if count + len(copies) > 1 else tuple(Form)
            repeat = rng.choices(tuple(Repeat), (1 - TWICE - UNHEARD, TWICE, UNHEARD))[0]
            yield SimulatedRequest(due, rng.choice(forms), new, copies, repeat)
            sent += count

    def _event(self, rng: random.Random, number: int, due: int) -> SimulatedEvent:
        keys = tuple(KEYS)
        key = keys[number] if number < len(keys) else rng.choice(keys)
        kind, value = KEYS[key]
        time = max(self.start + due - rng.randint(0, BEHIND_MS), 0)
        if rng.random() < 0.2:
            time -= time % 1000  # so that it can be sent in whole seconds
        event_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.client_id}/{number}"))
        return SimulatedEvent(
            MonitoringEvent(self.client_id, event_id, _written_time(rng, time), kind, key, msgspec.Raw(value(rng))),
            time,
        )


def _copies(
    rng: random.Random, answered: list[MonitoringEvent], sent: list[MonitoringEvent]
) -> Iterator[MonitoringEvent]:
    """Events once more; at times with another value, of which nothing may be seen: by its id the event is the same.

    Only where the first of them was answered: of two that are both on their way to a Kafka that is not there, either
    may be the one that arrives.
    """
    for _ in range(rng.randint(1, 3)):
        if answered and rng.random() < 0.3:
            yield msgspec.structs.replace(rng.choice(answered), event_value=msgspec.Raw(b"7777"))
        else:
            yield rng.choice(sent)


def _written_time(rng: random.Random, time: int) -> int | float | str:
    """A time in epoch milliseconds as clients may send it: in seconds or milliseconds, a number or a text."""
    if time % 1000 == 0:
        return rng.choice((time, str(time), time // 1000, str(time // 1000)))
    return rng.choice((time, str(time), time / 1000, f"{time // 1000}.{time % 1000:03}"))


def _number(rng: random.Random, low: int, high: int, places: int) -> bytes:
    """A decimal as clients may write it: a number or a text, at times with zeros to spare or an exponent."""
    digits = rng.randint(low, high)
    decimal = Decimal(digits).scaleb(-places)
    text = rng.choice((f"{decimal:f}", f"{decimal:f}{'' if not places else '0'}", f"{digits}e-{places}"))
    return text.encode() if rng.random() < 0.5 else f'"{text}"'.encode()


def _json(make: Callable[[random.Random], object]) -> Callable[[random.Random], bytes]:
    return lambda rng: msgspec.json.encode(make(rng))


#: A client's keys: of which kind they are, and how a value is drawn, as JSON.
KEYS: dict[str, tuple[EventType, Callable[[random.Random], bytes]]] = {
    "requests": (EventType.CUMULATIVE, lambda rng: _number(rng, 1, 9, 0)),
    "temperature": (EventType.TIME_SERIES, lambda rng: _number(rng, -400, 900, 1)),
    "bytes sent": (EventType.CUMULATIVE, lambda rng: _number(rng, 0, 10**12, 0)),
    "memory": (EventType.TIME_SERIES, _json(lambda r: {"used": r.randint(0, 1 << 34), "free": r.randint(0, 1 << 34)})),
    "cpu seconds": (EventType.CUMULATIVE, lambda rng: _number(rng, 1, 99, 1)),
    "load": (EventType.TIME_SERIES, _json(lambda r: [r.randint(0, 999) / 100 for _ in range(3)])),
    "cost €": (EventType.CUMULATIVE, lambda rng: _number(rng, 1, 10**6, 4)),
    "state": (EventType.TIME_SERIES, _json(lambda r: r.choice((None, True, False, "up", "näher an „down“", "")))),
    "balance": (EventType.CUMULATIVE, lambda rng: _number(rng, -(10**9), 10**9, 18)),
    "log": (
        EventType.TIME_SERIES,
        _json(lambda r: {"level": r.choice(("info", "warn")), "lines": [{"at": r.random()}]}),
    ),
}
