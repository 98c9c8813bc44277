"""The monitoring jobs over lists: each event once, sums exact, and a reason for what is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest

from support.monitoring.monitoring_pipeline import BASE, Pipeline, event, sample
from weir.infra.config import Config
from weir.schemas.dead_letters import Origin, from_headers
from weir.schemas.monitoring import MAX_NESTING
from weir.schemas.topics import MONITORING_SERIES, MONITORING_TOTALS, MONITORING_UNIQUE, by_name
from weir.streams.jobs import monitoring
from weir.streams.testing import FakeRecord, Harness

HOUR = 3_600_000
DAY = 24 * HOUR


def refused(h: Harness) -> list[tuple[Origin, bytes]]:
    """The dead letters."""
    return [(from_headers(record.headers()), record.value() or b"") for record in h.records("dead-letters")]


def test_a_thousand_tenths_are_a_hundred() -> None:
    p = Pipeline()
    for n in range(1000):
        p.send(event(f"e{n}", 0.1 if n % 2 else "0.1"))
    p.run()
    assert p.totals() == {("shop", "requests"): "100"}
    p.check_ledgers()


def test_sums_are_exact_far_apart_and_beyond_the_largest_number() -> None:
    p = Pipeline()
    values = ["9" * 100, "9" * 100, "1e-100", "-0.3", 0.1, 0.2, -1, "+1", "1e2", "0012.50"]
    for n, value in enumerate(values):
        p.send(event(f"e{n}", value))
    p.run()
    [total] = p.totals().values()
    assert Fraction(total) == sum(Fraction(str(value)) for value in values) > 10**100
    decoder = MONITORING_TOTALS.decoder()
    assert decoder is not None
    for record in p.monitoring.records("monitoring-totals"):
        decoder.one(record.value() or b"")  # what is written can be read


def test_the_same_id_counts_once_whoever_sends_it_and_whatever_it_says() -> None:
    p = Pipeline()
    p.send([event("a", 1), event("a", 1), event("b", 2), event("a", 5)])
    p.send(event("a", 7, key="other", client="bank"))
    p.run()
    p.send(sample("b"))
    p.send(event("c", 3))
    p.run()
    assert p.unique_ids() == ["a", "b", "c"]
    assert p.totals() == {("shop", "requests"): "6"}
    assert (p.ids.routed.accepted, p.ids.counted, p.ids.routed.dead) == (7, 7, 0)
    assert (p.monitoring.routed.accepted, p.monitoring.counted) == (3, 3)


def test_an_id_is_remembered_across_a_restart_that_comes_at_any_moment() -> None:
    p = Pipeline()
    p.send(event("a"))
    for topic in ("monitoring-events", "monitoring-by-id"):
        p.ids.process(topic, 0)
        p.ids.crash()
        p.ids.process(topic, 0)
        p.ids.flush(topic, 0)
        p.ids.crash()
    p.send(event("a"))
    p.run()
    p.crash()
    p.send(event("a"))
    p.run()
    assert p.unique_ids() == ["a"]
    assert p.totals() == {("shop", "requests"): "1"}


def test_an_id_is_remembered_for_its_retention_and_then_counts_again() -> None:
    p = Pipeline(WEIR_MONITORING_DEDUP_RETENTION=HOUR)
    p.send(event("a"))
    p.run()
    p.ids.advance(HOUR)
    p.send(event("a", event_timestamp=BASE + HOUR), at=HOUR - 1)  # which does not prolong it
    p.run()
    assert p.unique_ids() == ["a"]
    p.ids.crash()
    p.send(event("a", event_timestamp=BASE), at=HOUR)
    p.send(event("a", event_timestamp=BASE), at=HOUR)
    p.run()
    assert p.unique_ids() == ["a", "a"]
    assert p.totals() == {("shop", "requests"): "2"}


def test_ids_of_a_silent_topic_are_forgotten_by_the_clock_and_nothing_is_left_of_them() -> None:
    p = Pipeline(partitions=2)
    p.send(event("a"))
    p.run()
    p.ids.advance(DAY + 2000)
    p.ids.run()
    p.ids.run()
    assert [record.value() is None for record in p.ids.records("monitoring-ids")] == [False, True]


def test_beyond_the_capacity_the_oldest_ids_are_forgotten_and_that_is_told() -> None:
    p = Pipeline(WEIR_MONITORING_DEDUP_CAPACITY=10)
    for n in range(15):
        p.send(event(f"e{n}"), at=n)
    p.run()
    assert p.ids.dropped == 5
    p.send(event("e14"), at=20)
    p.send(event("e5"), at=20)
    p.run()
    assert len(p.unique_ids()) == 15
    p.send(event("e0"), at=30)
    p.run()
    assert len(p.unique_ids()) == 16
    assert p.ids.dropped == 6


@pytest.mark.parametrize("unit", ["ms", "text", "seconds"])
def test_a_time_ahead_of_its_acceptance_by_more_than_the_skew_is_refused_whatever_the_clock(unit: str) -> None:
    def written(ms: int) -> Any:
        return {"ms": ms, "text": str(ms), "seconds": f"{ms // 1000}.{ms % 1000:03}"}[unit]

    p = Pipeline(WEIR_MONITORING_MAX_SKEW=HOUR)
    p.send([event("in", event_timestamp=written(BASE + HOUR)), event("out", event_timestamp=written(BASE + HOUR + 1))])
    p.ids.advance(DAY)  # a worker that comes late decides as one that does not
    p.run()
    [(origin, raw)] = refused(p.ids)
    assert (origin.reason, origin.element, origin.job) == ("timestamp", 1, "monitoring-ids")
    assert origin.detail == f"`event_timestamp` is {HOUR + 1} ms ahead of the record's timestamp"
    assert msgspec.json.decode(raw)["event_id"] == "out"
    p.send(event("out"))
    p.run()
    assert p.unique_ids() == ["in", "out"]  # what is refused is not remembered
    p.check_ledgers()


def test_what_comes_through_has_its_time_in_ms_a_plain_number_and_a_stable_key() -> None:
    p = Pipeline()
    p.send(event("a", "1.50e1", client='ü,"', key="k'", event_timestamp="1750000020.5", more=[1]), at=5)
    p.send(sample("b", {"user": [1, 2.50, None], "text": "\n\\"}, event_timestamp=0))
    p.run()
    a, b = p.unique
    assert (a.key(), a.timestamp()[1]) == ('["ü,\\"","k\'"]'.encode(), BASE + 5)
    assert msgspec.json.decode(a.value() or b"") == {
        "client_id": "ü,\"", "event_id": "a", "event_timestamp": 1_750_000_020_500, "event_type": "CUMULATIVE",
        "event_key": "k'", "event_value": 15,
    }  # fmt: skip
    assert b'"event_value":15}' in (a.value() or b"")
    assert b'"event_value":{"user":[1,2.5,null],"text":"\\n\\\\"}' in (b.value() or b"")
    for topic in (MONITORING_UNIQUE, MONITORING_TOTALS, MONITORING_SERIES):
        decoder = topic.decoder()
        assert decoder is not None
        assert topic.key_of is not None
        for record in (p.ids if topic is MONITORING_UNIQUE else p.monitoring).records(topic.name):
            assert topic.key_of(decoder.one(record.value() or b"")) == record.key()
    [total] = p.monitoring.records("monitoring-totals")
    [series] = p.monitoring.records("monitoring-series")
    assert (total.key(), series.value()) == (a.key(), b.value())


def test_totals_say_how_many_events_there_were_and_the_latest_time() -> None:
    p = Pipeline()
    for n, at in enumerate([5, 9, 2]):
        p.send(event(f"e{n}", event_timestamp=BASE + at))
    p.run()
    told = [(v["event_value"], v["events"], v["event_timestamp"]) for v in p.monitoring.values("monitoring-totals")]
    assert told == [(1, 1, BASE + 5), (2, 2, BASE + 9), (3, 3, BASE + 9)]


@pytest.mark.parametrize("first", ["CUMULATIVE", "TIME-SERIES"])
def test_a_key_of_both_types_is_of_the_first_and_the_other_is_refused(first: str) -> None:
    other = {"CUMULATIVE": "TIME-SERIES", "TIME-SERIES": "CUMULATIVE"}[first]
    p = Pipeline()
    p.send([event("a", event_type=first), event("b", 2, event_type=other), event("c", event_type=first)])
    p.send(event("d", event_type=other, client="bank"))  # another client's key is another key
    p.run()
    p.crash()
    p.send(event("e", event_type=other))
    p.run()
    dead = refused(p.monitoring)
    assert [msgspec.json.decode(raw)["event_id"] for _, raw in dead] == ["b", "e"]
    detail = f"`event_key` of this client is {first}, and the event is {other}"
    assert {(o.reason, o.detail, o.source) for o, _ in dead} == {("key-type", detail, "monitoring-unique")}
    counted = {
        "CUMULATIVE": ({("shop", "requests"): "2"}, ["d"]),
        "TIME-SERIES": ({("bank", "requests"): "1"}, ["a", "c"]),
    }
    assert (p.totals(), p.series()) == counted[first]
    p.check_ledgers()


def test_a_series_key_is_written_once_however_many_events_it_has_and_is_kept_out_of_memory() -> None:
    p = Pipeline()
    for n in range(50):
        p.send([sample(f"e{n}"), event(f"sum{n}")])
        p.run()
    states = [record.key() for record in p.monitoring.records("monitoring-state")]
    assert states.count(b'["shop","cpu"]') == 1
    assert states.count(b'["shop","requests"]') == 50
    assert monitoring.job(Config()).store == "rocksdb"


def test_a_key_that_the_version_before_wrote_keeps_its_kind_and_its_sum() -> None:
    p = Pipeline()
    before = {b'["shop","cpu"]': ["TIME-SERIES", 7, BASE, "0"], b'["shop","requests"]': ["CUMULATIVE", 2, BASE, "0.5"]}
    p.send(event("first", key="other"))
    p.run()  # something is committed: the state is read back from the changelog
    for key, (kind, events, latest, total) in before.items():
        state = {"kind": kind, "events": events, "latest": latest, "sum": total}
        topic = p.monitoring.topics["monitoring-state", 0]
        topic.append(
            FakeRecord("monitoring-state", 0, len(topic), key, msgspec.msgpack.encode((state, None, BASE)), BASE)
        )
    p.monitoring.crash()
    p.send([event("a", 1, key="cpu"), sample("b", key="cpu"), event("c", "0.25"), sample("d", key="requests")])
    p.run()
    assert [origin.detail for origin, _ in refused(p.monitoring)] == [
        "`event_key` of this client is TIME-SERIES, and the event is CUMULATIVE",
        "`event_key` of this client is CUMULATIVE, and the event is TIME-SERIES",
    ]
    assert p.totals()["shop", "requests"] == "0.75"
    assert p.series() == ["b"]


def test_the_order_of_the_events_of_a_key_is_kept() -> None:
    p = Pipeline()
    for n in range(0, 300, 3):
        p.send([event(f"e{n}", n), sample(f"e{n + 1}"), sample(f"e{n + 2}", key="disk")])
        if n % 60 == 0:
            p.run()
            p.crash()
    p.run()
    for key, rest in (("cpu", 1), ("disk", 2)):
        told = [v["event_id"] for v in p.monitoring.values("monitoring-series") if v["event_key"] == key]
        assert told == [f"e{n + rest}" for n in range(0, 300, 3)]
    assert [v["events"] for v in p.monitoring.values("monitoring-totals")] == list(range(1, 101))


@pytest.mark.parametrize(
    "value",
    [
        None, True, "", "ümläut\u2028", [], {}, [[[]]], {"a": {"b": [1, 2, {"c": None}]}}, 1e308, -0.0, 2**70, "NaN",
        "[" * 200, "\\" * 99 + '"' + "[" * 200, "x" * 60_000,
    ],
)  # fmt: skip
def test_a_series_takes_any_json(value: Any) -> None:
    p = Pipeline()
    p.send(sample("a", value))
    p.run()
    assert [v["event_value"] for v in p.monitoring.values("monitoring-series")] == [value]


def raw(**fields: str) -> bytes:
    """An event of fields that are JSON as they stand."""
    whole = {name: msgspec.json.encode(value).decode() for name, value in sample("a").items()} | fields
    return ("{" + ",".join(f'"{name}":{value}' for name, value in whole.items()) + "}").encode()


DEEP = '{"a":[' * (MAX_NESTING // 2) + "1" + "]}" * (MAX_NESTING // 2)


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (raw(event_value=f"[{DEEP}]"), "nesting", "`event_value` is nested more than 100 deep"),
        (raw(event_value="[" * 100_000 + "]" * 100_000), "nesting", "nested too deeply"),
        (raw(unknown="[" * 100_000 + "]" * 100_000), "nesting", "nested too deeply"),
        (raw(event_value='{"a":[1,1e400]}'), "invalid", "`event_value` cannot be read: number is infinity"),
        (raw(event_value="-1e400"), "invalid", "`event_value` cannot be read: number is infinity"),
        (raw(event_value="9" * 400), "invalid", "`event_value` cannot be read: number is infinity"),
        (raw(event_value='"' + "x" * (1 << 20) + '"'), "invalid", "`event_value` has 1048578 bytes"),
        (raw(event_value="NaN"), "not-json", "invalid character"),
        (raw(event_value="[1,Infinity]"), "not-json", "invalid character"),
        (raw(event_value='"\\ud800"'), "not-json", ""),
        (raw().replace(b"shop", b"\xff"), "not-utf8", "not UTF-8"),
        (raw(event_value='["x"]').replace(b"x", b"\xff"), "not-utf8", "not UTF-8"),
        (raw(event_type='"CUMULATIVE"', event_value="1e100"), "invalid", "`event_value` is out of range; allowed: "),
        (raw(event_type='"CUMULATIVE"', event_value="1e400"), "invalid", "`event_value` is out of range; allowed: "),
        (raw(event_type='"CUMULATIVE"', event_value="1e-101"), "invalid", "more than 100 digits after the point"),
        (raw(event_type='"CUMULATIVE"', event_value='"-Infinity"'), "invalid", "is not a finite number"),
        (raw(event_type='"CUMULATIVE"', event_value='"١"'), "invalid", "is not a finite number"),
        (raw(event_type='"CUMULATIVE"', event_value='"1,5"'), "invalid", "is not a finite number"),
        (raw(event_type='"CUMULATIVE"', event_value="true"), "invalid", "is neither a number nor a numeric text"),
        (raw(event_type='"CUMULATIVE"', event_value="null"), "invalid", "is neither a number nor a numeric text"),
        (raw(event_type='"time-series"'), "invalid", "$.event_type"),
        (raw(event_id='""'), "invalid", "`event_id` has 0 characters"),
        (raw(event_key='""'), "invalid", "`event_key` has 0 characters"),
        (raw(client_id='"\\u0000"'), "invalid", "`client_id`"),
        (raw(event_id="7"), "invalid", "$.event_id"),
        (raw(event_timestamp="-1"), "invalid", "`event_timestamp` is negative"),
        (raw(event_timestamp="1e400"), "invalid", "$.event_timestamp"),
        (raw(event_timestamp='"soon"'), "invalid", "`event_timestamp` is not an epoch timestamp"),
        (raw(event_timestamp=str(BASE * 1000)), "invalid", "`event_timestamp` is not an epoch timestamp"),
        (raw(event_timestamp=str(BASE // 1000 + 3601)), "timestamp", "`event_timestamp` is 3601000 ms ahead"),
        (b"[]", "empty", "the list is empty"),
        (b"", "empty", "the record has no value"),
        (b"nope", "not-json", ""),
        (b"[7]", "invalid", "Expected `object`"),
    ],
)  # fmt: skip
def test_what_is_refused_goes_to_the_dead_letters_with_its_reason_and_harms_nobody(
    record: bytes, reason: str, detail: str
) -> None:
    p = Pipeline()
    p.send(event("before"))
    p.send(record)
    p.send(event("after"))
    p.run()
    [(origin, value)] = refused(p.ids)
    assert origin.reason == reason
    assert detail in origin.detail
    assert (origin.source, origin.offset) == ("monitoring-events", 1)
    assert value == (b"7" if record == b"[7]" else record)
    assert p.totals() == {("shop", "requests"): "2"}
    assert p.monitoring.routed.dead == 0
    p.check_ledgers()


def test_a_value_nested_as_deeply_as_allowed_comes_through() -> None:
    p = Pipeline()
    p.send(raw(event_value=DEEP))
    p.run()
    [record] = p.monitoring.records("monitoring-series")
    assert DEEP.encode() in (record.value() or b"")


def test_seconds_and_milliseconds_are_told_apart() -> None:
    p = Pipeline()
    times = [1_750_000_020, "1750000020", 1_750_000_020.0, BASE, str(BASE)]
    for n, at in enumerate(times):
        p.send(sample(f"e{n}", event_timestamp=at))
    p.run()
    assert [v["event_timestamp"] for v in p.monitoring.values("monitoring-series")] == [BASE] * len(times)


def test_what_nobody_should_have_written_to_the_topic_between_is_refused_there() -> None:
    p = Pipeline()
    for value in (event("a", "x"), event("b", [1]), {**event("c"), "event_timestamp": "1"}):
        p.monitoring.send("monitoring-unique", value, BASE, key=b"any")
    p.monitoring.run()
    assert [origin.reason for origin, _ in refused(p.monitoring)] == ["invalid"] * 3
    assert p.monitoring.records("monitoring-state") == []
    p.check_ledgers()


def test_a_record_that_another_clock_took_is_not_held_against_this_one() -> None:
    p = Pipeline()
    p.monitoring.send("monitoring-unique", event("a"), BASE + DAY)
    p.monitoring.run()
    assert p.totals() == {("shop", "requests"): "1"}


@pytest.mark.parametrize("name", ["monitoring-unique", "monitoring-totals", "monitoring-series"])
def test_the_topics_between_and_behind_are_the_jobs_own(name: str) -> None:
    assert by_name(name).owner.startswith("streams/monitoring")
