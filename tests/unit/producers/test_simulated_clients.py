"""The events of simulated clients: repeatable, of every kind, and some sent again on purpose."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import msgspec
import pytest

from weir.infra.errors import ConfigError
from weir.producers.simulators.clients.events import KEYS, Form, Repeat, SimulatedClient, SimulatedRequest
from weir.schemas.monitoring import EventType, MonitoringEvent
from weir.schemas.times import epoch_ms
from weir.schemas.topics import MONITORING_EVENTS

START = 1_769_860_800_250


def client(seed: int = 1, number: int = 0, rate: float = 20, duration: float | None = 60) -> SimulatedClient:
    return SimulatedClient(seed, number, START, rate, duration)


def planned(duration: float = 60) -> list[SimulatedRequest]:
    return list(client(duration=duration).requests())


def written(request: SimulatedRequest) -> list[MonitoringEvent]:
    """The events in a request's body."""
    if request.form is Form.ARRAY:
        return msgspec.json.decode(request.body(), type=list[MonitoringEvent])
    return [msgspec.json.decode(line, type=MonitoringEvent) for line in request.body().splitlines()]


def test_the_same_seed_plans_the_same() -> None:
    assert list(client(7).requests()) == list(client(7).requests())
    assert list(client(7).requests()) != list(client(8).requests())
    assert list(client(7, number=0).requests()) != list(client(7, number=1).requests())


def test_the_same_seed_later_has_other_ids_and_else_the_same() -> None:
    later = SimulatedClient(1, 0, START + 1000, 20, 60)
    for one, other in zip(client().requests(), later.requests(), strict=True):
        assert (one.due, one.repeat, len(one.copies)) == (other.due, other.repeat, len(other.copies))
        for (a, _), (b, _) in zip(one.new, other.new, strict=True):
            assert (a.event_key, a.event_value) == (b.event_key, b.event_value)
            assert a.event_id != b.event_id
            assert a.client_id != b.client_id


def test_there_are_five_keys_of_each_kind_and_all_of_them_come_first() -> None:
    assert Counter(kind for kind, _ in KEYS.values()) == {EventType.CUMULATIVE: 5, EventType.TIME_SERIES: 5}
    events = [event.sent for request in planned() for event in request.new]
    assert {event.event_key for event in events[:10]} == set(KEYS)
    assert all(event.event_type is KEYS[event.event_key][0] for event in events)


def test_every_event_is_one_that_weir_takes() -> None:
    decoder = MONITORING_EVENTS.decoder()
    for request in planned():
        for event in written(request):
            assert decoder.one(msgspec.json.encode(event)) == event


def test_ids_are_each_events_own() -> None:
    ids = [event.sent.event_id for request in planned() for event in request.new]
    assert len(set(ids)) == len(ids) > 1000


def test_a_time_is_the_same_in_every_form_it_is_sent_in() -> None:
    forms = set()
    for request in planned():
        for event, time in request.new:
            assert epoch_ms(event.event_timestamp) == time
            in_seconds = float(event.event_timestamp) < 1e11
            forms.add((type(event.event_timestamp), in_seconds))
            assert time <= START + request.due
    assert forms == {(int, True), (int, False), (float, True), (str, True), (str, False)}


def test_decimals_are_sent_as_numbers_and_as_texts() -> None:
    raw = [
        bytes(event.event_value)
        for request in planned()
        for event, _ in request.new
        if event.event_type is EventType.CUMULATIVE
    ]
    assert {value[:1] == b'"' for value in raw} == {True, False}
    assert any(b"." in value for value in raw)
    assert any(b"e" in value for value in raw)


def test_some_is_sent_again_on_purpose() -> None:
    requests = planned()
    assert {request.repeat for request in requests} == set(Repeat)
    sent: dict[str, MonitoringEvent] = {}
    changed = 0
    for request in requests:
        answered = dict(sent)
        sent |= {event.event_id: event for event, _ in request.new}
        for copy in request.copies:
            if copy != sent[copy.event_id]:
                changed += 1
                assert copy.event_id in answered
                first = answered[copy.event_id]
                assert msgspec.structs.replace(copy, event_value=first.event_value) == first
    assert sum(len(request.copies) for request in requests) > changed > 0


def test_a_body_holds_what_is_new_and_then_the_copies_in_every_form() -> None:
    seen = set()
    for request in planned():
        seen.add(request.form)
        ids = [event.event_id for event in written(request)]
        assert ids == [event.event_id for event in (*(e.sent for e in request.new), *request.copies)]
    assert seen == set(Form)


@pytest.mark.parametrize("rate", [0.5, 1, 20, 500])
def test_events_are_due_at_the_rate_and_within_the_duration(rate: float) -> None:
    requests = list(client(rate=rate, duration=20).requests())
    assert [request.due for request in requests] == sorted(request.due for request in requests)
    assert requests[-1].due <= 20_000
    assert rate * 20 - 100 <= sum(len(request.new) for request in requests) <= rate * 20


def test_without_a_duration_it_goes_on() -> None:
    assert len(list(islice(client(duration=None).requests(), 500))) == 500


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0), (1, -1)])
def test_what_makes_no_client_is_refused(rate: float, duration: float) -> None:
    with pytest.raises(ConfigError):
        client(rate=rate, duration=duration)
