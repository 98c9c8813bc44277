"""The database of monitored clients: what is taken in comes out once, in order and in pages, within its bytes."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weir.consumers.monitoring.clients import ClientPage, ClientStore, Cursor, Query
from weir.consumers.monitoring.series import pack
from weir.consumers.monitoring.sorted_names import SortedNames
from weir.schemas.monitoring import EventType

PLENTY = 1 << 30
ALL = Query(limit=1_000_000)


class Event(NamedTuple):
    """An event of a series: `number` is where it is in its topic."""

    key: str
    time: int
    number: int
    value: str = "1"
    client: str = "c"

    @property
    def shown(self) -> dict[str, Any]:
        return {"event_id": f"e{self.number}", "event_timestamp": self.time, "event_value": json.loads(self.value)}


def put(store: ClientStore, *events: Event) -> None:
    for event in events:
        packed = pack((event.time, event.number), b'"e%d"' % event.number, event.value.encode())
        store.event(event.client, event.key, (event.time, event.number), packed)


def total(store: ClientStore, key: str, value: int, client: str = "c") -> dict[str, Any]:
    shown = {"event_type": "CUMULATIVE", "event_value": value}
    store.total(client, key, json.dumps(shown).encode())
    return shown


def data(page: ClientPage | None) -> dict[str, Any]:
    assert page is not None
    found: dict[str, Any] = json.loads(b"".join(page.pieces()))
    return found


def dump(store: ClientStore, query: Query = ALL, client: str = "c") -> dict[str, Any]:
    """Returns the client's whole data, in one page."""
    page = store.dump(client, query)
    assert page is not None
    assert page.next is None
    return data(page)


def events(store: ClientStore, query: Query = ALL, key: str = "cpu") -> list[str]:
    """The ids of a key's events."""
    return [event["event_id"] for event in dump(store, query)[key]["events"]]


def pages(store: ClientStore, query: Query) -> Iterator[dict[str, Any]]:
    """Page after page; what comes between two is up to the caller."""
    while True:
        page = store.dump("c", query)
        yield data(page)
        if page is None or page.next is None:
            return
        query = replace(query, cursor=page.next)


def test_a_client_that_nobody_has_heard_of_is_none() -> None:
    store = ClientStore(PLENTY)
    assert store.dump("c", Query()) is None
    assert store.kind("c", "cpu") is None
    assert store.clients(None, 10) == ([], False)


def test_totals_and_series_are_shown_by_key_in_order() -> None:
    store = ClientStore(PLENTY)
    put(store, Event("cpu", 2, 1, "[1.50]"), Event("cpu", 1, 2, '{"a":null}'))
    first = total(store, "requests", 11)
    assert dump(store)["requests"] == first
    latest = total(store, "requests", 12)
    total(store, "requests", 99, "another")
    shown = dump(store)
    assert list(shown) == ["cpu", "requests"]
    assert shown == {
        "cpu": {
            "event_type": "TIME-SERIES",
            "events": [
                {"event_id": "e2", "event_timestamp": 1, "event_value": {"a": None}},
                {"event_id": "e1", "event_timestamp": 2, "event_value": [1.5]},
            ],
        },
        "requests": latest,
    }
    assert store.kind("c", "requests") is EventType.CUMULATIVE
    assert store.kind("c", "cpu") is EventType.TIME_SERIES
    assert store.kind("c", "memory") is store.kind("b", "cpu") is None


def test_what_an_event_says_comes_back_byte_for_byte() -> None:
    store = ClientStore(PLENTY)
    put(store, Event("k", 1, 1, "0.10000000000000000001"), Event("k", 2, 2, "1E+2"))
    page = store.dump("c", Query())
    assert page is not None
    text = b"".join(page.pieces())
    assert b'"event_value":0.10000000000000000001}' in text
    assert b'"event_value":1E+2}' in text


def test_a_range_takes_events_from_its_start_to_before_its_end_and_every_total() -> None:
    store = ClientStore(PLENTY)
    put(store, *(Event("cpu", time, time) for time in range(300)))
    total(store, "requests", 1)
    assert events(store, Query(start=100, end=250)) == [f"e{time}" for time in range(100, 250)]
    assert events(store, Query(start=299)) == ["e299"]
    assert events(store, Query(end=0)) == []
    assert dump(store, Query(start=1000)).keys() == {"cpu", "requests"}


def test_one_key_can_be_asked_for() -> None:
    store = ClientStore(PLENTY)
    put(store, *(Event(key, 1, 1) for key in ("a", "b", "c")))
    assert dump(store, Query(key="b")).keys() == {"b"}
    assert dump(store, Query(key="z")) == {}
    assert dump(store, Query(key="b", cursor=Cursor("b"))) == {}
    assert dump(store, Query(key="b", cursor=Cursor("c", (0, 0)))) == {}


def test_pages_are_as_long_as_they_may_be_and_the_last_says_so() -> None:
    store = ClientStore(PLENTY)
    put(store, *(Event(key, time, time) for key in ("a", "b") for time in range(100)))
    found = list(pages(store, Query(limit=70)))
    assert [{key: len(part["events"]) for key, part in page.items()} for page in found] == [
        {"a": 70}, {"a": 30, "b": 40}, {"b": 60},
    ]  # fmt: skip
    assert len(list(pages(store, Query(limit=100)))) == 2
    assert len(list(pages(store, Query(limit=200)))) == 1


def test_a_page_of_long_values_is_shorter() -> None:
    store = ClientStore(PLENTY)
    put(store, *(Event("k", time, time, json.dumps("x" * 60_000)) for time in range(200)))
    found = [[event["event_timestamp"] for event in page["k"]["events"]] for page in pages(store, Query(limit=200))]
    assert [len(page) for page in found] == [69, 69, 62]
    assert [time for page in found for time in page] == list(range(200))


def test_a_page_is_of_the_moment_it_was_asked_for() -> None:
    store = ClientStore(PLENTY)
    put(store, Event("cpu", 1, 1))
    page = store.dump("c", Query())
    put(store, Event("cpu", 2, 2), Event("cpu", 0, 3))
    assert [event["event_id"] for event in data(page)["cpu"]["events"]] == ["e1"]


def test_the_oldest_events_go_and_their_keys_say_how_many() -> None:
    store = ClientStore(64 << 10)
    put(store, *(Event(key, time, time) for time in range(2000) for key in ("a", "b")))
    facts = store.facts()
    assert facts["bytes"] <= 64 << 10
    assert facts["events"] + facts["dropped"] == 4000
    for key, part in dump(store).items():
        gone = part["truncated"]["events"]
        assert 0 < gone < 2000
        assert part["truncated"]["until"] == gone - 1
        assert [event["event_timestamp"] for event in part["events"]] == list(range(gone, 2000)), key


def test_a_key_whose_events_are_all_gone_goes_and_its_client_with_its_last_key() -> None:
    store = ClientStore(64 << 10)
    put(store, Event("old", 0, 0), Event("only", 0, 1, client="gone"))
    shown = total(store, "sum", 7, "stays")
    put(store, Event("only", 0, 2, client="stays"))
    put(store, *(Event("new", time, time) for time in range(3, 4000)))
    assert dump(store).keys() == {"new"}
    assert store.dump("gone", Query()) is None
    assert dump(store, client="stays") == {"sum": shown}
    assert store.kind("c", "old") is None
    assert [name for name, _ in store.clients(None, 10)[0]] == ["c", "stays"]
    assert (store.facts()["keys"], store.facts()["forgotten"]) == (2, 3)
    put(store, Event("old", 5000, 9))
    assert events(store, key="old") == ["e9"]
    assert store.kind("c", "old") is EventType.TIME_SERIES


def test_an_event_larger_than_all_memory_is_let_go_at_once() -> None:
    store = ClientStore(1024)
    put(store, Event("k", 1, 1, json.dumps("x" * 5000)))
    assert store.dump("c", ALL) is None
    assert store.facts() == dict.fromkeys(store.facts(), 0) | {"dropped": 1, "forgotten": 1}


def memory_of(fill: Callable[[], None]) -> int:
    """Bytes that are allocated by this call and stay; CPython and malloc hand out memory in blocks of 16."""
    tracemalloc.start()
    try:
        fill()
        gc.collect()
        return sum(-(-trace.size // 16) * 16 for trace in tracemalloc.take_snapshot().traces)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [12, 128])
@pytest.mark.parametrize("size", [1, 500])
def test_distinct_keys_take_the_memory_that_is_allowed_within_a_fifth_however_many_there_were(
    name: int, size: int
) -> None:
    limit = 1 << 20
    store = ClientStore(limit)

    def fill() -> None:
        for n in range(4_000):
            put(store, Event(f"{n:0{name}}", n, n, json.dumps("x" * size), f"{n // 4:0{name}}"))

    held, facts = memory_of(fill), store.facts()
    assert facts["forgotten"] > 2_000
    assert facts["keys"] == 4_000 - facts["forgotten"] == facts["events"]
    assert 0.99 * limit < facts["bytes"] <= limit
    assert 0.8 * limit < held < 1.2 * limit
    assert facts["total_bytes"] == 0


def test_sums_are_counted_beside_the_series_within_a_fifth_and_never_go() -> None:
    store = ClientStore(64 << 10)

    def fill() -> None:
        for n in range(4_000):
            total(store, f"key-{n}", n, f"client-{n // 4}")

    held, facts = memory_of(fill), store.facts()
    assert 0.8 * facts["total_bytes"] < held < 1.2 * facts["total_bytes"]
    assert (facts["bytes"], facts["keys"], facts["dropped"]) == (0, 4_000, 0)


def test_a_total_takes_the_place_of_a_series_whichever_comes_first() -> None:
    store = ClientStore(PLENTY)
    put(store, *(Event("k", time, time) for time in range(200)))
    shown = total(store, "k", 5)
    put(store, Event("k", 300, 300))
    assert dump(store) == {"k": shown}
    assert (store.facts()["events"], store.facts()["keys"]) == (0, 1)


def test_clients_are_listed_in_order_with_the_number_of_their_keys() -> None:
    store = ClientStore(PLENTY)
    names = [f"client {number:05}" for number in range(3000)]
    for name in Random(1).sample(names, len(names)):
        total(store, "k", 1, name)
    total(store, "l", 1, names[0])
    found: list[tuple[str, int]] = []
    more = True
    while more:
        listed, more = store.clients(found[-1][0] if found else None, 700)
        found += listed
    assert found == [(names[0], 2), *((name, 1) for name in names[1:])]


def test_it_can_start_anew() -> None:
    store = ClientStore(PLENTY)
    put(store, Event("k", 1, 1))
    store.clear()
    assert store.dump("c", Query()) is None
    assert set(store.facts().values()) == {0}


@given(st.lists(st.text(max_size=3), unique=True, max_size=60), st.text(max_size=3), st.integers(0, 60))
def test_names_come_in_order(every: list[str], name: str, staying: int) -> None:
    names, gone = every[:staying], every[staying:]
    held = SortedNames()
    for each in names + gone:
        held.add(each)
    for each in gone:
        held.remove(each)
    assert list(held.since(name)) == sorted(n for n in names if n >= name)
    assert list(held.since(name, after=True)) == sorted(n for n in names if n > name)


taken = st.builds(
    Event,
    key=st.sampled_from("ab"),
    time=st.integers(0, 40),
    number=st.integers(0, 400),
    value=st.sampled_from(["1", "2.50", json.dumps("x" * 900)]),
    client=st.just("c"),
)
arrivals = st.lists(st.lists(taken, max_size=60), max_size=8)


@given(arrivals, st.integers(1, 50), st.integers(0, 20), st.integers(20, 45))
@example([[Event("a", 0, n) for n in range(64)], [Event("a", 0, 0)]], 64, 0, 45)
def test_pages_are_stable_while_events_arrive(
    arriving: Sequence[Sequence[Event]], limit: int, start: int, end: int
) -> None:
    """Whatever order events come in, whatever comes twice, however it is asked for page by page meanwhile."""
    store = ClientStore(PLENTY)
    model: dict[tuple[str, int, int], Event] = {}

    def arrive(events: Sequence[Event]) -> None:
        put(store, *events)
        for event in events:
            model.setdefault((event.key, event.time, event.number), event)

    waiting = list(arriving)
    arrive(waiting.pop(0) if waiting else [])
    before = {place: event for place, event in model.items() if start <= event.time < end}
    shown: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if not model:
        assert store.dump("c", Query()) is None
        return
    for page in pages(store, Query(start=start, end=end, limit=limit)):
        assert sum(max(1, len(part["events"])) for part in page.values()) <= limit
        for key, part in page.items():
            shown[key] += part["events"]
        arrive(waiting.pop(0) if waiting else [])
    for key, found in shown.items():
        places = [(event["event_timestamp"], int(event["event_id"][1:])) for event in found]
        assert places == sorted(set(places))
        assert set(places) >= {place[1:] for place in before if place[0] == key}
        assert [model[key, *place].shown for place in places] == found
    assert store.facts()["events"] == len(model)
    whole = dump(store)
    for key, part in whole.items():
        assert part["events"] == [model[place].shown for place in sorted(model) if place[0] == key]
    assert whole.keys() == {place[0] for place in model}


@given(arrivals, st.integers(1024, 20_000))
def test_what_is_held_is_the_newest_of_each_key_since_it_was_last_unknown_and_within_the_limit(
    arriving: Sequence[Sequence[Event]], limit: int
) -> None:
    store = ClientStore(limit)
    added: set[tuple[str, int, int]] = set()
    since: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
    for event in (event for events in arriving for event in events):
        if (event.key, event.time, event.number) in added:
            continue
        put(store, event)
        added.add((event.key, event.time, event.number))
        since[event.key].append((event.time, event.number))
        for key, places in since.items():
            if store.kind("c", key) is None:
                places.clear()
        assert store.facts()["bytes"] <= limit
    facts = store.facts()
    assert facts["events"] + facts["dropped"] == len(added)
    if facts["keys"] == 0:
        assert facts["bytes"] % 140 == 0  # entries of the queue whose turn has not come
        assert store.dump("c", ALL) is None
        return
    shown = dump(store)
    assert shown.keys() == {key for key in since if store.kind("c", key) is not None}
    for key, part in shown.items():
        held = [(event["event_timestamp"], int(event["event_id"][1:])) for event in part["events"]]
        gone = part.get("truncated", {"events": 0, "until": -1})
        assert held
        assert held == sorted(since[key])[gone["events"] :]
        assert all(place[0] >= gone["until"] for place in held)
