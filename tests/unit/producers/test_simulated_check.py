"""The comparison of a client's dump with what was sent: whatever is missing, wrong, twice or too much is told."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
import pytest

from weir.producers.simulators.clients.check import (
    Dump,
    EventResult,
    Gone,
    SentByClient,
    SeriesEvent,
    SimulatedResponse,
)
from weir.producers.simulators.clients.events import Form, Repeat, SimulatedClient, SimulatedEvent, SimulatedRequest
from weir.schemas.monitoring import EventType, MonitoringEvent

_ids = itertools.count()


def event(key: str, value: str, time: int = 60_000, event_id: str | None = None) -> SimulatedEvent:
    kind = EventType.CUMULATIVE if key == "cost" else EventType.TIME_SERIES
    known = event_id or f"e-{next(_ids)}"
    return SimulatedEvent(MonitoringEvent("c", known, time, kind, key, msgspec.Raw(value.encode())), time)


def request(*new: SimulatedEvent) -> SimulatedRequest:
    return SimulatedRequest(0, Form.ARRAY, new, (), Repeat.NO)


def sent(*new: SimulatedEvent) -> SentByClient:
    """A client that has sent these, and was answered."""
    client = SentByClient("c")
    whole = request(*new)
    client.sending(whole)
    client.settled(whole)
    return client


def series(*events: tuple[str, int, bytes]) -> dict[str, list[tuple[str, SeriesEvent]]]:
    return {"load": [(event_id, SeriesEvent(time, value)) for event_id, time, value in events]}


@pytest.mark.parametrize("value", ["0.1", '"0.1"', "1e-1", '"0.10"'])
def test_a_thousand_tenths_are_a_hundred_in_every_form(value: str) -> None:
    client = sent(*(event("cost", value) for _ in range(1000)))
    assert client.differences(Dump({"cost": Decimal(100)}, {})) == []
    assert client.differences(Dump({"cost": Decimal("100.0")}, {})) == []
    almost = Decimal("99.9999999999986")
    assert client.differences(Dump({"cost": almost}, {})) == [f"cost: sent 100, there is {almost}"]


def test_long_sums_are_exact() -> None:
    client = sent(event("cost", "1e60"), event("cost", "1e-60"))
    assert client.differences(Dump({"cost": Decimal("1e60")}, {})) != []
    assert client.differences(Dump({"cost": Decimal(f"1{'0' * 60}.{'0' * 59}1")}, {})) == []


def test_a_sum_that_is_not_there_is_told() -> None:
    client = sent(event("cost", "2"))
    assert client.differences(None) == client.differences(Dump({}, {})) == ["cost: sent 2, there is nothing"]


def test_a_series_is_equal_event_by_event_whatever_its_numbers_look_like() -> None:
    client = sent(event("load", '{"a": 1.50}', 60_000, "x"), event("load", "null", 50_000, "y"))
    assert client.differences(Dump({}, series(("y", 50_000, b"null"), ("x", 60_000, b'{"a":1.5}')))) == []


@pytest.mark.parametrize(
    ("there", "difference"),
    [
        (series(("x", 1, b"1")), "load: of 2 events 1 are missing, 0 are wrong, 0 are there twice"),
        (
            series(("x", 1, b"1"), ("y", 2, b"2"), ("y", 2, b"2")),
            "load: of 2 events 0 are missing, 0 are wrong, 1 are there twice",
        ),
        (
            series(("x", 1, b"1"), ("y", 2, b"true")),
            "load: of 2 events 0 are missing, 1 are wrong, 0 are there twice",
        ),
        (
            series(("x", 1, b"1"), ("y", 3, b"2")),
            "load: of 2 events 0 are missing, 1 are wrong, 0 are there twice",
        ),
        (
            series(("x", 1, b"1"), ("y", 2, b"2"), ("z", 3, b"2")),
            "load: of 2 events 0 are missing, 1 are wrong, 0 are there twice",
        ),
        (series(("y", 2, b"2"), ("x", 1, b"1")), "load: is not in order of time"),
    ],
)
def test_a_series_that_differs_is_told(there: dict[str, list[tuple[str, SeriesEvent]]], difference: str) -> None:
    client = sent(event("load", "1", 1, "x"), event("load", "2", 2, "y"))
    assert client.differences(Dump({}, there)) == [difference]


@pytest.mark.parametrize(
    ("gone", "missing"), [(Gone(1, 1), 0), (Gone(9, 1), 0), (Gone(1, 0), 1), (Gone(0, 1), 1)], ids=str
)
def test_what_is_no_longer_in_memory_is_not_missing(gone: Gone, missing: int) -> None:
    client = sent(event("load", "1", 1, "x"), event("load", "2", 2, "y"))
    told = client.differences(Dump({}, series(("y", 2, b"2")), {"load": gone}))
    assert told == [f"load: of 2 events {missing} are missing, 0 are wrong, 0 are there twice"] * missing


def test_keys_that_were_never_sent_are_told() -> None:
    assert sent().differences(Dump({"a": Decimal(1)}, {"b": []})) == ["a: was never sent", "b: was never sent"]


def test_a_refusal_is_a_difference() -> None:
    client = sent()
    client.answered(SimulatedResponse(0, 0, 1, [EventResult("refused", "x", "event_key", "is of the other type")]))
    assert client.differences(None) == ["refused: `event_key` is of the other type"]


def test_what_was_never_answered_is_in_doubt_and_not_compared() -> None:
    client = sent(event("cost", "2"))
    client.sending(request(event("load", "1")))
    assert client.in_doubt == {"load"}
    assert client.differences(Dump({"cost": Decimal(2)}, {})) == []
    assert client.differences(Dump({"cost": Decimal(3)}, {})) == ["cost: sent 2, there is 3"]


def test_copies_and_repetitions_count_for_nothing_but_the_report() -> None:
    client = SentByClient("c")
    sums: dict[str, Decimal] = {}
    by_key: dict[str, dict[str, SeriesEvent]] = {}
    for whole in SimulatedClient(1, 0, 1_769_860_800_000, 20, 30).requests():
        client.sending(whole)
        if whole.repeat is not Repeat.NO:
            client.repeating(whole)
        client.settled(whole)
        for one, time in whole.new:
            if one.event_type is EventType.CUMULATIVE:
                text = bytes(one.event_value).decode().strip('"')
                sums[one.event_key] = sums.get(one.event_key, Decimal(0)) + Decimal(text)
            else:
                value = msgspec.json.encode(msgspec.json.decode(one.event_value))
                by_key.setdefault(one.event_key, {})[one.event_id] = SeriesEvent(time, value)
    assert client.again > 50
    there = {key: sorted(events.items(), key=lambda e: e[1].time) for key, events in by_key.items()}
    assert client.differences(Dump(sums, there)) == []
