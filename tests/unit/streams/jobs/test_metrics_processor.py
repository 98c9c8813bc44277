"""The metrics processor in one thread: the same figures as the job's, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.metrics.processed_events import BASE, HOUR, MINUTE, NOW, event, processor
from weir.infra.errors import OverloadError
from weir.schemas.errors import PoisonError
from weir.schemas.metrics import MetricEvent
from weir.schemas.times import to_rfc3339
from weir.streams.jobs import metrics_processor


def test_an_answer_has_every_figure_of_every_type() -> None:
    p = processor()
    for value in range(1, 101):
        p.process_event(event(value, user=f"user-{value % 4}"))
    p.process_event(event(0.1, "buy"))
    assert p.get_aggregates(1) == {
        "buy.count": 1, "buy.sum": 0.1, "buy.avg": 0.1, "buy.min": 0.1, "buy.max": 0.1,
        "buy.p50": 0.1, "buy.p95": 0.1, "buy.p99": 0.1, "buy.users": 1,
        "login.count": 100, "login.sum": 5050, "login.avg": 50.5, "login.min": 1, "login.max": 100,
        "login.p50": 50, "login.p95": 95, "login.p99": 99, "login.users": 4,
    }  # fmt: skip
    assert {type(figure) for figure in p.get_aggregates(1).values()} == {float}


def test_nothing_is_in_a_minute_without_events() -> None:
    p = processor()
    assert p.get_aggregates(1440) == {}
    p.process_event(event(at=BASE - MINUTE))
    assert p.get_aggregates(1) == {}
    assert p.get_aggregates(2)["login.count"] == 1


@dataclass
class Attributes:
    timestamp: Any = BASE
    user_id: Any = "ann"
    event_type: Any = "login"
    value: Any = 1


def test_an_event_may_be_a_mapping_or_an_object_and_its_time_in_any_form() -> None:
    p = processor()
    second = BASE // 1000
    for at in (BASE, second, second + 0.5, str(BASE), to_rfc3339(BASE), "2025-06-15T17:07:00.123456+02:00"):
        p.process_event(event(1, at=at))
        p.process_event({"timestamp": at, "user_id": "bob", "event_type": "login", "value": 2, "unknown": []})
        p.process_event(Attributes(at, value=3))
    assert {name: p.get_aggregates(1)[f"login.{name}"] for name in ("count", "sum", "users")} == {
        "count": 18, "sum": 36, "users": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("value", bad) for bad in (math.nan, math.inf, -math.inf, 1e100, -1e300, 10**400, "7", True, None, [])),
        *(("user_id", bad) for bad in ("", "a\nb", "\ud800", "u" * (1 << 20), 7, None, b"ann")),
        *(("event_type", bad) for bad in ("", "t" * 129, "\0", 7, None, ["login"])),
        *(("timestamp", bad) for bad in (-1, math.nan, math.inf, 10**18, "yesterday", "2025-06-15T15:07:00", "", None)),
        *(("timestamp", bad) for bad in (True, [BASE], NOW + HOUR + 1, NOW - 1440 * MINUTE, 0, to_rfc3339(0))),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_a_bad_event_is_refused_with_its_field_and_changes_nothing(field: str, value: Any) -> None:
    p = processor()
    p.process_event(event())
    before = p.get_aggregates(1440)
    fields = {"timestamp": BASE, "user_id": "ann", "event_type": "login", "value": 1.0, field: value}
    for bad in (MetricEvent(**fields), fields, Attributes(**fields)):
        with pytest.raises(PoisonError, match=field):
            p.process_event(bad)
    assert p.get_aggregates(1440) == before


@pytest.mark.parametrize(
    "bad",
    [None, b"{}", "login", 7, [], {}, {"user_id": "ann"}, object()],
    ids=lambda bad: "object" if type(bad) is object else repr(bad),
)
def test_what_is_no_event_is_refused(bad: Any) -> None:
    with pytest.raises(PoisonError):
        processor().process_event(bad)


@pytest.mark.parametrize("minutes", [0, -1, 1441, 1.0, True, None, "60"], ids=repr)
def test_minutes_that_are_not_kept_cannot_be_asked_for(minutes: Any) -> None:
    with pytest.raises(ValueError, match="minutes"):
        processor().get_aggregates(minutes)


def test_a_late_event_revises_its_minute_and_old_minutes_are_dropped() -> None:
    clock = [NOW]
    p = processor(now_ms=lambda: clock[0], types=1)
    p.process_event(event(1))
    clock[0] += 1439 * MINUTE
    assert p.get_aggregates(1440)["login.count"] == 1
    p.process_event(event(3))
    assert p.get_aggregates(1440)["login.sum"] == 4
    assert p.get_aggregates(1439) == {}
    with pytest.raises(OverloadError, match="'buy'"):
        p.process_event(event(kind="buy", at=clock[0]))
    clock[0] += MINUTE
    assert p.get_aggregates(1440) == {}
    with pytest.raises(PoisonError, match="timestamp"):
        p.process_event(event(at=to_rfc3339(BASE)))
    p.process_event(event(kind="buy", at=clock[0]))  # "login" is forgotten with its last minute
    assert p.get_aggregates(1)["buy.count"] == 1


def test_what_has_become_too_old_is_refused_once_the_clock_was_looked_at() -> None:
    clock = [NOW]
    p = processor(now_ms=lambda: clock[0])
    oldest = BASE - 1439 * MINUTE
    p.process_event(event())
    p.process_event(event(at=oldest))
    clock[0] += 59 * MINUTE  # nobody has looked since
    with pytest.raises(PoisonError, match="more than 1440 minutes ago"):
        p.process_event(event(at=oldest + 59 * MINUTE - 1))
    p.process_event(event(at=oldest + 59 * MINUTE))
    clock[0] += 120 * MINUTE
    assert p.get_aggregates(1440)["login.count"] == 1
    with pytest.raises(PoisonError, match="more than 1440 minutes ago"):
        p.process_event(event(at=oldest + 179 * MINUTE - 1))
    with pytest.raises(PoisonError, match="ahead of the clock"):
        p.process_event(event(at=clock[0] + HOUR + 1))


def test_an_event_ahead_of_the_clock_counts_when_its_minute_comes() -> None:
    clock = [NOW]
    p = processor(now_ms=lambda: clock[0], max_skew=MINUTE)
    p.process_event(event(at=NOW + MINUTE))
    assert p.get_aggregates(1) == {}
    clock[0] += 1
    assert p.get_aggregates(1)["login.count"] == 1
    with pytest.raises(PoisonError, match="ahead of the clock"):
        p.process_event(event(at=NOW + MINUTE + 2))


a_value = st.floats(-1e99, 1e99) | st.integers(-50, 50).map(float) | st.sampled_from([0.1, -0.0, 1e-300])
an_event = st.tuples(st.sampled_from(["login", "buy"]), st.sampled_from("abcd"), a_value, st.integers(0, 5 * MINUTE))
a_read = st.sampled_from([1, 2, 3, 1440])
a_pause = st.integers(0, 2 * MINUTE).map(float)


@settings(max_examples=150, deadline=None)
@given(st.lists(an_event | a_read | a_pause, max_size=60), st.sampled_from([(1, 1), (2, 5), (7, 7), (1024, 16384)]))
def test_every_answer_is_what_the_events_come_to(steps: list[Any], sizes: tuple[int, int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics_processor, "BATCH", sizes[0])
        patched.setattr(metrics_processor, "ROWS", sizes[1])
        patched.setattr(metrics_processor, "EACH", 1)
        clock = [NOW]
        p = processor(now_ms=lambda: clock[0])
        taken: list[tuple[str, str, float, int]] = []
        for step in [*steps, 1440]:
            if isinstance(step, tuple):
                kind, user, value, back = step
                taken.append((kind, user, value, clock[0] - back))
                p.process_event(event(value, kind, user, clock[0] - back))
            elif isinstance(step, float):
                clock[0] += int(step)
            else:
                first = clock[0] // MINUTE * MINUTE - (step - 1) * MINUTE
                assert p.get_aggregates(step) == figures([one for one in taken if first <= one[3] <= clock[0]])


def figures(events: list[tuple[str, str, float, int]]) -> dict[str, float]:
    """Returns the aggregates of the events, by definition."""
    found = {}
    for kind in sorted({kind for kind, _, _, _ in events}):
        values = sorted(value for own, _, value, _ in events if own == kind)
        true = sum(map(Fraction, values))
        figures = {"count": len(values), "sum": float(true), "avg": float(true / len(values))}
        figures |= {"min": values[0], "max": values[-1]}
        figures |= {f"p{rank}": values[math.ceil(Fraction(rank, 100) * len(values)) - 1] for rank in (50, 95, 99)}
        figures |= {"users": len({user for own, user, _, _ in events if own == kind})}
        found |= {f"{kind}.{name}": float(figure) for name, figure in figures.items()}
    return found
