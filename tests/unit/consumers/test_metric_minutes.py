"""The last N minutes of metrics: against a model that keeps every event, for cells revised in any order."""

from __future__ import annotations

import bisect
import math
import random
from collections import defaultdict
from fractions import Fraction

import datasketches
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.metrics.minute_buckets import MINUTES, MetricMinutes
from weir.consumers.metrics.states import MINUTE, Cell, Figures, read
from weir.infra.config import Config
from weir.schemas.aggregates import expansion
from weir.schemas.errors import PoisonError
from weir.schemas.metrics import RANKS, STATE_HEADER, MetricAggregate, MetricCell, MetricState, state_of
from weir.streams.engine.core.records import STATE as ENGINES
from weir.streams.jobs import metrics
from weir.streams.testing import FakeRecord, Harness

#: The minute that the clock begins in: 2026-01-31T12:00:00Z.
NOON = 1_769_860_800_000 // MINUTE
Event = tuple[float, str]


def cell(events: list[Event]) -> Cell:
    """The cell of a minute with these events."""
    quantiles, users = datasketches.kll_doubles_sketch(280), datasketches.hll_sketch(14, datasketches.HLL_4)
    for value, user in events:
        quantiles.update(value)
        users.update(user)
    values = [value for value, _ in events]
    return Cell(
        len(events), expansion(values), min(values), max(values), quantiles.serialize(), users.serialize_compact()
    )


def direct(events: list[Event]) -> Figures:
    """Returns the figures of these events, computed directly."""
    values = sorted(value for value, _ in events)
    total = sum(map(Fraction, values))
    p50, p95, p99 = (values[max(math.ceil(Fraction(str(rank)) * len(values)) - 1, 0)] for rank in RANKS)
    users = len({user for _, user in events})
    return Figures(len(values), float(total), float(total / len(values)), values[0], values[-1], p50, p95, p99, users)


class Model:
    """Every event of one type, by minute."""

    def __init__(self) -> None:
        self.minutes: defaultdict[int, list[Event]] = defaultdict(list)

    def last(self, minutes: int, now: int) -> list[Event]:
        return [e for m in range(now - minutes + 1, now + 1) for e in self.minutes.get(m, ())]


#: Ages in minutes about which something changes, and whatever lies between; the latest more often.
AGES = st.one_of(
    st.integers(-1, 12),
    st.sampled_from([19, 58, 59, 60, 61, 118, 119, 120, 121, 181, 359, 360, 361, 421, 1439]),
    st.integers(-61, MINUTES - 1),
)
VALUES = st.one_of(
    st.sampled_from([0.0, 0.1, 1e16, -1e16, 1.0, 1e-300]), st.floats(-1e99, 1e99), st.integers(-9, 9).map(float)
)
EVENTS = st.lists(st.tuples(VALUES, st.sampled_from("abcdefgh")), min_size=1, max_size=4)
REVISE = st.tuples(st.just("revise"), AGES, EVENTS, st.booleans())
RUN = st.tuples(st.just("run"), AGES, EVENTS, st.booleans())
ASK = st.tuples(st.just("ask"), st.integers(1, MINUTES), st.just([]), st.booleans())
PASS = st.tuples(st.just("pass"), st.sampled_from([1, 1, 1, 2, 9, 10, 60, 180, -5]), st.just([]), st.booleans())
Act = tuple[str, int, list[Event], bool]


@given(st.lists(st.one_of(REVISE, RUN, ASK, ASK, PASS), min_size=4, max_size=40))
def test_any_order_of_revisions_and_questions_gives_what_all_events_give(acts: list[Act]) -> None:
    minutes, model, now, latest = MetricMinutes(), Model(), NOON, NOON
    for act, number, events, yes in acts:
        if act == "pass":
            now += number
            latest = max(now, latest)
            minutes.prepare("login", now * MINUTE)
            if yes:
                minutes.tidy("login", now * MINUTE)
        elif act in ("revise", "run"):
            for minute in range(now - number, now - number + (1 if act == "revise" else 25)):
                model.minutes[minute] += events
                minutes.revise("login", minute, cell(model.minutes[minute]), now * MINUTE if yes else None)
        else:
            for asked, remember in ((number, False), (2, True), (5, True), (60, True), (120, True), (700, True)):
                found = minutes.figures("login", asked, now * MINUTE + 59_999, remember=remember, spare=yes)
                told_apart = asked + latest - now <= 120 and not minutes.unsettled
                check(found, model, asked, now, told_apart, minutes.unsettled)


def check(found: Figures | None, model: Model, number: int, now: int, told_apart: bool, unsettled: int) -> None:
    events = model.last(number, now)
    if not events:
        assert found is None
        return
    assert found is not None
    wanted = direct(events)
    if told_apart:
        assert found == wanted
        return
    # The sketches may be of an hour more or less at the beginning, of which they have the greater part.
    assert msgspec.structs.astuple(found)[:5] == msgspec.structs.astuple(wanted)[:5]
    wide, narrow = model.last(number + 60, now), model.last(max(number - 60, 0), now)
    assert {found.p50, found.p95, found.p99} <= {value + 0.0 for value, _ in wide}
    assert len({user for _, user in narrow}) <= found.users <= len({user for _, user in wide})
    if not unsettled:
        values, inside = sorted(value for value, _ in wide), [value for value, _ in narrow]
        least = math.ceil(len(inside) / 2)
        assert bisect.bisect_right(values, found.p50) >= least


def test_of_an_hour_that_is_cut_and_all_there_is_the_figures_are_still_given() -> None:
    minutes = MetricMinutes()
    for minute, events in ((NOON, [(1.0, "a")] * 5), (NOON + 59, [(2.0, "b")])):
        minutes.revise("login", minute, cell(events), 0)
    later = (NOON + 600) * MINUTE
    minutes.tidy("login", later)
    found = minutes.figures("login", 550, later)
    assert found is not None
    assert (found.count, found.sum, found.min, found.max) == (1, 2.0, 2.0, 2.0)
    assert minutes.figures("login", 500, later) is None


def test_a_change_of_a_type_that_was_forgotten_and_comes_again_is_a_change() -> None:
    """An answer that is cached by a type's number of changes must not survive the type's return."""
    kept, another = MetricMinutes(), MetricMinutes()
    numbers = []
    for minute, minutes in ((NOON - MINUTES, kept), (NOON, kept), (NOON, another)):
        minutes.revise("login", minute, cell([(1.0, "ann")]), None)
        numbers.append(minutes.changes("login"))
        minutes.tidy("login", NOON * MINUTE + 60 * MINUTE)
    assert len(set(numbers)) == 3
    assert kept.changes("login") == numbers[1]


def test_what_changes_after_it_was_folded_is_right_but_for_the_quantiles() -> None:
    minutes = MetricMinutes()
    minutes.revise("login", NOON, cell([(1.0, "a")]), 0)
    later = (NOON + 400) * MINUTE
    minutes.tidy("login", later)
    minutes.revise("login", NOON, cell([(1.0, "a"), (9.0, "b")]), 0)
    minutes.revise("login", NOON + 1, cell([(5.0, "c")]), 0)  # was not there before
    found = minutes.figures("login", 1000, later)
    assert found == Figures(3, 15.0, 5.0, 1.0, 9.0, p50=1.0, p95=5.0, p99=5.0, users=3)
    assert minutes.unsettled == 1


def test_minutes_that_are_not_final_are_told_apart_for_an_hour_longer() -> None:
    minutes = MetricMinutes()
    minutes.revise("login", NOON, cell([(1.0, "a")]), None)
    minutes.tidy("login", (NOON + 180) * MINUTE)
    minutes.revise("login", NOON, cell([(1.0, "a"), (9.0, "b")]), None)
    assert minutes.unsettled == 0
    minutes.tidy("login", (NOON + 190) * MINUTE)
    minutes.revise("login", NOON, cell([(1.0, "a"), (9.0, "b"), (9.0, "b")]), None)
    assert minutes.unsettled == 1


def test_a_day_later_nothing_is_kept() -> None:
    minutes = MetricMinutes()
    minutes.revise("login", NOON, cell([(1.0, "a")]), 0)
    minutes.tidy("login", (NOON + MINUTES + 58) * MINUTE)
    assert minutes.types() == ["login"]
    minutes.tidy("login", (NOON + MINUTES + 59) * MINUTE)
    assert minutes.types() == []
    assert minutes.figures("login", MINUTES, (NOON + MINUTES + 59) * MINUTE) is None


def test_a_day_of_full_sketches_takes_a_twentieth_of_what_they_take_apart() -> None:
    rng = random.Random(1)
    full = cell([(rng.random(), f"u{n}") for n in range(6_000)])
    minutes = MetricMinutes()
    for minute in range(NOON, NOON + MINUTES):
        minutes.revise("login", minute, full, 0)
        if minute % 10 == 0:
            minutes.tidy("login", minute * MINUTE)
    apart = 130 * (len(full.quantiles) + len(full.users))  # two hours, and until ten minutes are whole
    assert minutes.size("login") < apart + 60 * 17_000 + MINUTES * 50
    found = minutes.figures("login", MINUTES, (NOON + MINUTES - 1) * MINUTE, remember=True)
    assert found is not None
    assert found.count == 6_000 * MINUTES
    assert found.users == pytest.approx(6_000, rel=0.03)
    assert found.p50 == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("remember", [False, True])
def test_merged_minutes_are_as_near_to_the_truth_as_a_minute_is(remember: bool) -> None:
    rng = random.Random(2)
    minutes, values, users = MetricMinutes(), [], set()
    for minute in range(NOON, NOON + 60):
        events = [(rng.lognormvariate(0, 1), f"u{rng.randrange(100_000)}") for _ in range(2_000)]
        minutes.revise("login", minute, cell(events), 0)
        values += [value for value, _ in events]
        users |= {user for _, user in events}
    found = minutes.figures("login", 60, (NOON + 59) * MINUTE, remember=remember)
    assert found is not None
    values.sort()
    assert (found.count, found.sum, found.min, found.max) == (len(values), math.fsum(values), values[0], values[-1])
    for rank, quantile in zip(RANKS, (found.p50, found.p95, found.p99), strict=True):
        assert bisect.bisect_right(values, quantile) / len(values) == pytest.approx(rank, abs=0.02)
    assert found.users == pytest.approx(len(users), rel=0.03)


def written(*events: dict[str, object]) -> list[FakeRecord]:
    """Returns the records that the metrics job writes for these events."""
    harness = Harness(metrics.job(Config()))
    harness.send("metric-events", list(events), timestamp=NOON * MINUTE)
    harness.run()
    return harness.records("metric-aggregates")


def event(value: float, user: str, at: int = NOON * MINUTE) -> dict[str, object]:
    return {"timestamp": at, "user_id": user, "event_type": "login", "value": value}


def aggregate_of(record: FakeRecord) -> MetricAggregate:
    return msgspec.json.decode(record.value() or b"", type=MetricAggregate)


def test_a_state_is_what_the_engine_writes() -> None:
    assert STATE_HEADER == ENGINES
    (record,) = written(event(0.1, "a"), event(1e16, "b"), event(-2.5, "a"))
    state = state_of(record.headers())
    assert (record.headers() or ()) == [(STATE_HEADER, msgspec.msgpack.encode(state))]
    parts = expansion([0.1, 1e16, -2.5])
    assert (state.start, state.end, state.key) == (NOON * MINUTE, (NOON + 1) * MINUTE, ("login",))
    assert state.cell == MetricCell(
        3, 3, (None, parts, None), (3, None, parts, None), -2.5, 1e16, state.cell.quantiles, state.cell.users
    )


def test_one_minute_is_said_as_the_engine_says_it() -> None:
    rng = random.Random(3)
    (record,) = written(*(event(rng.gauss(0, 1e3), f"u{rng.randrange(4_000)}") for _ in range(5_000)))
    aggregate = aggregate_of(record)
    minute, own = read(aggregate, state_of(record.headers()))
    minutes = MetricMinutes()
    minutes.revise("login", minute, own, None)
    found = minutes.figures("login", 1, NOON * MINUTE)
    assert found == Figures(
        aggregate.count, aggregate.sum, aggregate.avg, aggregate.min, aggregate.max, *aggregate.quantiles,
        aggregate.users,
    )  # fmt: skip


def test_a_record_whose_header_is_another_cells_is_refused() -> None:
    (record,) = written(event(1.0, "a"))
    (other,) = written(event(1.0, "a"), event(2.0, "b"))
    (later,) = written(event(1.0, "a", (NOON + 1) * MINUTE))
    aggregate = aggregate_of(record)
    with pytest.raises(PoisonError, match="1 events, of which the header has 2"):
        read(aggregate, state_of(other.headers()))
    with pytest.raises(PoisonError, match="window or type"):
        read(aggregate, state_of(later.headers()))


def test_a_window_that_is_no_minute_is_refused() -> None:
    (record,) = written(event(1.0, "a"))
    aggregate, state = aggregate_of(record), state_of(record.headers())
    window = msgspec.structs.replace(aggregate.window, end="2026-01-31T12:02:00Z")
    with pytest.raises(PoisonError, match="is not a minute"):
        read(
            msgspec.structs.replace(aggregate, window=window),
            msgspec.structs.replace(state, end=state.end + MINUTE),
        )


@pytest.mark.parametrize("damaged", ["quantiles", "users"])
@pytest.mark.parametrize("by", [lambda data: data[:-1], lambda data: b"", lambda data: b"\xff" * len(data)])
def test_sketches_that_are_none_are_refused(damaged: str, by: object) -> None:
    (record,) = written(*(event(float(n), f"u{n}") for n in range(100)))
    state = state_of(record.headers())
    assert callable(by)
    changed = msgspec.structs.replace(state.cell, **{damaged: by(getattr(state.cell, damaged))})
    with pytest.raises(PoisonError, match="sketches cannot be read"):
        read(aggregate_of(record), msgspec.structs.replace(state, cell=changed))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (None, "no header"),
        ([("other", b"")], "no header"),
        ([(STATE_HEADER, None)], "no header"),
        ([(STATE_HEADER, b"")], "cannot be read"),
        ([(STATE_HEADER, b"\xc1")], "cannot be read"),
        ([(STATE_HEADER, msgspec.msgpack.encode([0, 60_000, ["login"]]))], "cannot be read"),
        ([(STATE_HEADER, msgspec.msgpack.encode([0, 60_000, ["login"], 3]))], "cannot be read"),
        ([(STATE_HEADER, msgspec.msgpack.encode(MetricState(0, 60_000, ("login",), None)))], "cannot be read"),  # type: ignore[arg-type]
    ],
)
def test_headers_without_a_state_are_refused(headers: list[tuple[str, object]] | None, why: str) -> None:
    with pytest.raises(PoisonError, match=why):
        state_of(headers)
