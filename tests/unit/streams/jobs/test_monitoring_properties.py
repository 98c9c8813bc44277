"""Whatever the numbers, the orders and the crashes: each id counts once, and sums are those of fractions."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from support.monitoring.monitoring_pipeline import Pipeline, event, sample
from weir.schemas.fields import exact, written

PARTITIONS = 2

decimal = st.builds(
    lambda sign, whole, places, e: f"{sign}{whole}{'.' if places else ''}{places}{e}",
    st.sampled_from(["", "-"]), st.integers(0, 10**40).map(str), st.text("0123456789", max_size=40),
    st.sampled_from(["", "", "e0", "E-59", "e+58", "e7"]),
)  # fmt: skip
number = st.one_of(
    decimal, st.integers(-(2**53), 2**53), st.floats(-1e90, 1e90).filter(lambda x: abs(x) > 1e-80 or not x)
)
key = st.sampled_from([("shop", "requests"), ("shop", "bytes"), ("bank", "requests")])
any_event = st.tuples(key, number, st.booleans())
ids = st.integers(0, 29)
source = st.integers(0, PARTITIONS - 1)
task = st.tuples(
    st.sampled_from(["monitoring-events", "monitoring-by-id", "monitoring-unique"]), st.integers(0, PARTITIONS - 1)
)
step = st.one_of(
    st.tuples(st.just("send"), st.lists(ids, min_size=1, max_size=4), source),
    st.tuples(st.just("process"), task, st.integers(1, 4)),
    st.tuples(st.just("flush"), task),
    st.tuples(st.just("crash"), task),
    st.tuples(st.just("flow")),
)


def one(id: int, what: tuple[tuple[str, str], Any, bool]) -> dict[str, Any]:
    """The event of an id: always the same one."""
    (client, name), value, counts = what
    return event(f"e{id}", value, name, client) if counts else sample(f"e{id}", value, f"{name} log", client)


def play(events: list[tuple[tuple[str, str], Any, bool]], steps: list[Any]) -> tuple[Pipeline, Counter[int]]:
    """Both jobs at the end, and how often each event was sent."""
    p = Pipeline(PARTITIONS)
    sent: Counter[int] = Counter()
    for name, *rest in steps:
        if name == "send":
            sent.update(rest[0])
            several = [one(id, events[id]) for id in rest[0]]
            p.send(several if len(several) > 1 else several[0], partition=rest[1])
        elif name == "flow":
            p.flow()
        else:
            h = p.monitoring if rest[0][0] == "monitoring-unique" else p.ids
            getattr(h, name)(*rest[0], *rest[1:])
    p.run()
    return p, sent


@settings(max_examples=250, deadline=None)
@given(st.lists(any_event, min_size=30, max_size=30), st.lists(step, max_size=60))
def test_each_id_counts_once_and_sums_are_those_of_fractions(events: list[Any], steps: list[Any]) -> None:
    p, sent = play(events, steps)
    assert sorted(p.unique_ids()) == sorted(f"e{id}" for id in sent)
    expected: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for id in sent:
        where, value, counts = events[id]
        if counts:
            expected[where] += Fraction(str(value))
    assert {where: Fraction(total) for where, total in p.totals().items()} == dict(expected)
    assert sorted(p.series()) == sorted(f"e{id}" for id in sent if not events[id][2])
    assert p.ids.routed.accepted == p.ids.counted == sent.total()
    assert p.monitoring.routed.accepted == p.monitoring.counted == len(sent)
    p.check_ledgers()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ids, st.booleans()), max_size=40), st.lists(step, max_size=20))
def test_a_key_of_both_types_is_of_one_and_every_event_of_the_other_is_a_dead_letter(
    kinds: list[tuple[int, bool]], steps: list[Any]
) -> None:
    p = Pipeline(PARTITIONS)
    for number, (id, counts) in enumerate(kinds):
        made = event if counts else sample
        p.send(made(f"e{id}", 1, key="both"), partition=number % PARTITIONS)
        for name, *rest in steps[number : number + 1]:
            if name not in ("send", "flow"):
                getattr(p.monitoring if rest[0][0] == "monitoring-unique" else p.ids, name)(*rest[0], *rest[1:])
        p.flow()
    p.run()
    passed = [msgspec.json.decode(record.value() or b"") for record in p.unique]
    assert len(passed) == len({value["event_id"] for value in passed}) == len({id for id, _ in kinds})
    of_first = [value["event_type"] == passed[0]["event_type"] for value in passed]
    assert p.monitoring.routed.dead == of_first.count(False)
    told = len(p.series()) + len(p.monitoring.records("monitoring-totals"))
    assert told == p.monitoring.counted == of_first.count(True)
    p.check_ledgers()


@given(decimal)
def test_a_number_is_written_as_it_is_read(text: str) -> None:
    assert exact(written(exact(text))) == exact(text)
    assert Fraction(written(exact(text))) == Fraction(text)
