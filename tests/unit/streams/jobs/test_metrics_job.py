"""The metrics job without a broker: events in, what each type comes to per minute out."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.infra.config import Config
from weir.schemas.dead_letters import from_headers
from weir.schemas.metrics import RANKS, MetricAggregate, MetricEvent, check_aggregate
from weir.schemas.times import timestamp_ms, to_rfc3339
from weir.schemas.topics import METRIC_AGGREGATES
from weir.streams.jobs import metrics
from weir.streams.jobs.metric_times import timestamps_ms
from weir.streams.testing import Harness

BASE = 1_750_000_020_000  # the start of a minute
MINUTE = 60_000
HOUR = 60 * MINUTE
Cell = tuple[str, str]


def harness(partitions: int = 1, config: Config | None = None) -> Harness:
    return Harness(metrics.job(config or Config()), partitions, now_ms=BASE + 10 * MINUTE)


def event(value: Any = 1.5, kind: str = "login", user: str = "ann", at: Any = BASE) -> dict[str, Any]:
    return {"timestamp": at, "user_id": user, "event_type": kind, "value": value}


def send(h: Harness, value: Any, partition: int = 0) -> None:
    h.send("metric-events", value, timestamp=0, partition=partition)


def cells(h: Harness) -> dict[Cell, dict[str, Any]]:
    """The latest of each minute and type; all that was written is what the topic says."""
    decoder = METRIC_AGGREGATES.decoder()
    assert decoder is not None
    assert METRIC_AGGREGATES.key_of is not None
    for record in h.records("metric-aggregates"):
        assert record.key() == METRIC_AGGREGATES.key_of(decoder.one(record.value() or b""))
    return {(a["window"]["start"][11:16], a["event_type"]): a for a in h.latest("metric-aggregates").values()}


def reasons(h: Harness) -> list[str]:
    return [from_headers(r.headers()).reason for r in h.records("dead-letters")]


def test_a_minute_says_what_its_events_come_to() -> None:
    h = harness()
    send(h, [event(value, user=f"user-{value % 4}") for value in range(1, 101)])
    send(h, event(7, "logout"))
    h.run()
    found = cells(h)
    assert found["15:07", "logout"]["count"] == 1
    assert found["15:07", "login"] == {
        "window": {"start": "2025-06-15T15:07:00Z", "end": "2025-06-15T15:08:00Z"},
        "event_type": "login",
        "count": 100,
        "sum": 5050,
        "avg": 50.5,
        "min": 1,
        "max": 100,
        "quantiles": [50, 95, 99],
        "users": 4,
        "final": False,
    }
    for record in h.records("metric-aggregates"):
        check_aggregate(msgspec.json.decode(record.value() or b"", type=MetricAggregate))


def test_the_time_is_the_events_own_in_any_form() -> None:
    h = harness()
    second = BASE // 1000
    forms = [BASE, second, second + 0.25, str(BASE), str(second), to_rfc3339(BASE), "2025-06-15T17:07:00.5+02:00"]
    send(h, [event(at=at) for at in forms])
    for at in forms:
        send(h, event(at=at))
    send(h, event(at=BASE + MINUTE))
    h.run()
    assert {cell: a["count"] for cell, a in cells(h).items()} == {("15:07", "login"): 14, ("15:08", "login"): 1}


def test_a_late_event_revises_its_minute_and_one_later_than_the_retention_does_not_count() -> None:
    h = harness()
    h.now_ms = BASE + 3 * HOUR
    send(h, [event(1), event(5, at=BASE + 2 * HOUR)])
    h.run()
    assert cells(h)["15:07", "login"]["final"]
    send(h, [event(3), event(at=BASE - 1)])
    h.run()
    first = cells(h)["15:07", "login"]
    assert (first["count"], first["sum"], first["max"], first["final"]) == (2, 4, 3, True)
    assert (h.routed.counted, h.routed.late, h.counted) == (3, 1, 3)


@pytest.mark.parametrize(
    ("bad", "reason", "says"),
    [
        (b'{"timestamp":1750000020,"user_id":"ann","event_type":"login","value":NaN}', "not-json", ""),
        (b'{"timestamp":1750000020,"user_id":"ann","event_type":"login","value":1e400}', "invalid", "$.value"),
        (event(1e100), "invalid", "`value`"),
        (event(-1e300), "invalid", "`value`"),
        (event("7"), "invalid", "$.value"),
        (event(True), "invalid", "$.value"),
        (event(None), "invalid", "$.value"),
        (event(user=""), "invalid", "`user_id`"),
        (event(user="a\nb"), "invalid", "`user_id`"),
        (event(user="u" * (1 << 20)), "invalid", "`user_id`"),
        (event(kind=""), "invalid", "`event_type`"),
        (event(kind="t" * 129), "invalid", "`event_type`"),
        (event(at=-1), "invalid", "`timestamp`"),
        (event(at=10**18), "invalid", "`timestamp`"),
        (event(at="yesterday"), "invalid", "`timestamp`"),
        (event(at="2025-06-15T15:07:00"), "invalid", "`timestamp`"),
        (event(at=None), "invalid", "$.timestamp"),
        (event(at=BASE + 10 * MINUTE + HOUR + 1), "timestamp", "ahead of the clock"),
        ({"user_id": "ann"}, "invalid", "timestamp"),
        (b"[" * 10_000 + b"]" * 10_000, "nesting", ""),
    ],
    ids=lambda one: repr(one)[:80],
)
def test_bad_events_go_to_the_dead_letters_alone_and_say_the_field(bad: Any, reason: str, says: str) -> None:
    h = harness()
    send(h, event())
    send(h, bad)
    send(h, [event(), bad, event()] if not isinstance(bad, bytes) else event())
    h.run()
    assert set(reasons(h)) == {reason}
    assert says in from_headers(h.records("dead-letters")[0].headers()).detail
    assert (h.routed.counted, h.routed.dead) == ((2, 1) if isinstance(bad, bytes) else (3, 2))


def test_a_number_that_is_seconds_is_not_taken_for_milliseconds() -> None:
    """An epoch in microseconds is refused; in seconds it is another time than the same number in milliseconds."""
    h = harness()
    send(h, [event(at=BASE // 1000), event(at=BASE), event(at=BASE * 1000)])
    h.run()
    assert cells(h)["15:07", "login"]["count"] == 2
    assert reasons(h) == ["invalid"]


def test_the_skew_that_is_allowed_is_the_configured_one() -> None:
    h = harness(config=Config().replace(WEIR_METRICS_MAX_SKEW=1_000))
    send(h, [event(at=h.now_ms + 1_000), event(at=h.now_ms + 1_001)])
    h.run()
    assert (h.routed.counted, reasons(h)) == (1, ["timestamp"])


Event = tuple[str, str, float, int]
a_value = st.floats(-1e99, 1e99) | st.integers(-50, 50).map(float) | st.sampled_from([0.1, -0.0, 1e-300])
an_event = st.tuples(st.sampled_from(["login", "buy"]), st.sampled_from("abcdef"), a_value, st.integers(0, 3 * MINUTE))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(an_event, st.booleans()), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_it_is_what_the_events_come_to_however_they_are_cut_and_whatever_crashes(
    events: list[tuple[Event, bool]], rng: random.Random
) -> None:
    h = harness(partitions=2)
    for (kind, user, value, at), crashes in events:
        send(h, event(value, kind, user, BASE + at), partition=rng.randrange(2))
        if crashes:
            h.step()
            h.crash()
    h.run()
    groups: dict[Cell, list[Event]] = {}
    for one, _ in events:
        groups.setdefault((to_rfc3339(BASE + one[3])[11:16], one[0]), []).append(one)
    found = cells(h)
    assert found.keys() == groups.keys()
    for cell, group in groups.items():
        values = sorted(value for _, _, value, _ in group)
        true = sum(map(Fraction, values))
        aggregate = found[cell]
        assert (aggregate["count"], aggregate["min"], aggregate["max"]) == (len(group), values[0], values[-1])
        assert (aggregate["sum"], aggregate["avg"]) == (float(true), float(true / len(values)))
        assert aggregate["quantiles"] == [values[math.ceil(Fraction(str(r)) * len(values)) - 1] for r in RANKS]
        assert aggregate["users"] == len({user for _, user, _, _ in group})
    assert h.counted == len(events)


# What times are, many at once.

moment = st.datetimes()
offset = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "", "+01", "X", "ZZ"])
fraction = st.sampled_from(["", ".", ",5"]) | st.integers(0, 10**9).map(lambda n: f".{n}") | st.just(".000")
text = st.builds(
    lambda at, mark, part, zone: at.strftime("%Y").zfill(4) + at.strftime(f"-%m-%d{mark}%H:%M:%S") + part + zone,
    moment, st.sampled_from("TTTt _"), fraction, offset,
)  # fmt: skip
strange = st.sampled_from(
    ["", "1750000020", "1750000020.25", "1e9", "2025-02-30T00:00:00Z", "2025-06-15T24:00:00Z", "٣"]
)
number = st.integers(-5, 10**15) | st.floats() | st.floats(0, 3e9) | st.integers(0, 3 * 10**9)
stamp = text | strange | number | st.booleans()
stamps = st.lists(stamp, min_size=1, max_size=5) | st.lists(text, min_size=1) | st.lists(number, min_size=1)


@settings(max_examples=500, deadline=None)
@given(stamps | st.lists(st.integers(10**11, 2 * 10**12), min_size=1))
def test_the_times_of_many_are_those_of_each(stamps: list[Any]) -> None:
    def one(stamp: Any) -> int | None:
        try:
            return timestamp_ms(stamp)
        except (ValueError, OverflowError):
            return None

    expected = [one(stamp) for stamp in stamps]
    if None in expected:
        with pytest.raises((ValueError, OverflowError)):
            timestamps_ms(stamps)
    else:
        assert list(timestamps_ms(stamps)) == expected
    for stamp, at in zip(stamps, expected, strict=True):
        if at is not None:
            assert list(timestamps_ms([stamp])) == [at]


def test_keys_are_checked_also_where_they_were_seen_before() -> None:
    good = MetricEvent(BASE, "ann", "login", 1.0)
    assert metrics.keys([good, good], [BASE, BASE]) == [("login",), ("login",)]
    for bad in (
        MetricEvent(BASE, "", "login", 1.0),
        MetricEvent(BASE, "ann", "", 1.0),
        MetricEvent(BASE, "a\x07", "x", 1.0),
    ):
        with pytest.raises(metrics.PoisonError):
            metrics.keys([good, bad], [BASE, BASE])
