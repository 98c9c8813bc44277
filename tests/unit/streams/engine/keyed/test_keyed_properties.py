"""Whatever the interleaving of slices, flushes, idleness and crashes: a keyed job does what a loop over dicts does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import ANY_TIMESTAMP, Topic
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.keyed.stage import KeyedStage, RoutedKeyedStage
from weir.streams.testing import Harness

BASE = 1_750_000_020_000
PARTITIONS = 3
TTL = 300
KEYS = ["k0", "k1", "k2", "k3", "k4"]


class Event(msgspec.Struct, frozen=True):
    """`delay` sets (or moves) the key's timer to so long after the event, None takes it back."""

    id: int
    key: str
    amount: int
    refuse: bool
    delete: bool
    delay: int | None


EVENTS = Topic("events", "test", "", "", Event)
ROUTED = Topic("events-routed", "test", "", "", None, internal=True)
TABLE = Topic("table", "test", "", "", None, config={"cleanup.policy": "compact"}, internal=True)
OUT = Topic("out", "test", "", "", None, config=ANY_TIMESTAMP)


def process(ctx: Context[int], event: Event) -> None:
    total = (ctx.state or 0) + event.amount
    ctx.state = None if event.delete else total
    if event.delay is None:
        ctx.cancel("t")
    else:
        ctx.timer("t", ctx.timestamp + event.delay)
    ctx.emit(OUT, ["event", event.id, total], ctx.key)
    if event.refuse:
        raise PoisonError(Reason.INVALID, "refused")


def on_timer(ctx: Context[int], name: str) -> None:
    ctx.state = (ctx.state or 0) + 1_000_000
    ctx.emit(OUT, ["timer", ctx.key, ctx.timestamp - BASE, ctx.state], ctx.key)


JOB = Keyed(
    name="sums", source=EVENTS, changelog=TABLE, state=int, key=lambda event: event.key, process=process,
    on_timer=on_timer, ttl=TTL, outputs=(OUT,), max_skew=10_000_000,
)  # fmt: skip


class Model:
    """One partition as plain dicts and one loop, each event once, every key looked at every time. `share` keys fit."""

    def __init__(self, share: float = math.inf) -> None:
        self.mark, self.share, self.dropped = -1, share, 0
        self.state: dict[str, int] = {}
        self.timer: dict[str, int] = {}
        self.touched: dict[str, int] = {}
        self.out: list[list[Any]] = []

    def process(self, at: int, event: Event) -> None:
        self.mark = max(self.mark, at)
        self.fire()
        if event.refuse:
            return
        total = self.state.get(event.key, 0) + event.amount
        self.state[event.key] = total
        if event.delete:
            del self.state[event.key]
        self.timer.pop(event.key, None)
        if event.delay is not None:
            self.timer[event.key] = at + event.delay
        self.touched[event.key] = self.mark
        self.out.append(["event", event.id, total])
        self.make_room()
        self.fire()

    def make_room(self) -> None:
        def expires(key: str) -> tuple[int, str]:
            return max(self.touched[key], self.timer.get(key, 0)) + TTL, key

        while len(keys := {*self.state, *self.timer}) > self.share:
            first = min(keys, key=expires)
            self.state.pop(first, None)
            self.timer.pop(first, None)
            self.dropped += 1

    def fire(self) -> None:
        for at, key in sorted((at, key) for key, at in self.timer.items() if at <= self.mark):
            del self.timer[key]
            self.touched[key] = self.mark
            self.state[key] = self.state.get(key, 0) + 1_000_000
            self.out.append(["timer", key, at, self.state[key]])
        for key in list(self.state):
            if key not in self.timer and self.touched[key] + TTL <= self.mark:
                del self.state[key]


moment = st.integers(0, 1000)
event = st.builds(
    Event, st.just(0), st.sampled_from(KEYS), st.integers(1, 99), st.sampled_from([False] * 6 + [True]),
    st.sampled_from([False] * 6 + [True]), st.none() | st.integers(-50, 400),
)  # fmt: skip
partition = st.integers(0, PARTITIONS - 1)
task = st.tuples(st.sampled_from(["events", "events-routed"]), partition)
step = st.one_of(
    st.tuples(st.just("event"), moment, event, partition),
    st.tuples(st.just("array"), moment, st.lists(event, max_size=3), partition),
    st.tuples(st.just("process"), task, st.integers(1, 4)),
    st.tuples(st.just("flush"), task),
    st.tuples(st.just("crash"), task),
)
restless = st.one_of(step, st.tuples(st.just("idle"), task), st.tuples(st.just("advance"), moment))


def play(job: Keyed[Event, int], steps: list[Any]) -> tuple[Harness, list[tuple[int, int, Event]]]:
    """The harness at the end, and (partition, timestamp, event) of all that was sent, with ids."""
    h = Harness(job, PARTITIONS, now_ms=BASE)
    sent: list[tuple[int, int, Event]] = []
    for name, *rest in steps:
        if name in ("event", "array"):
            at, what, where = rest
            events = what if name == "array" else [what]
            if job.repartition is None and events:  # such a source's producers put a key where it belongs
                where = owner((events[0].key,), PARTITIONS)
                events = [e for e in events if owner((e.key,), PARTITIONS) == where]
            events = [msgspec.structs.replace(e, id=len(sent) + n) for n, e in enumerate(events)]
            h.send("events", events if name == "array" else events[0], BASE + at, where)
            sent += [(where, at, e) for e in events]
        elif name == "advance":
            h.advance(rest[0])
        elif (topic := rest[0][0]) in (t.topic.name for t in job.tasks):
            getattr(h, name)(topic, rest[0][1], *rest[1:])
    h.run()
    return h, sent


def states(h: Harness, keys: Sequence[str] = KEYS) -> dict[str, int]:
    """Returns the states that are restored from the changelog."""
    found: dict[str, int] = {}
    h.crash()
    for number in range(PARTITIONS):
        stage = h.stage(h.job.tasks[-1].topic.name, number)
        assert isinstance(stage, KeyedStage | RoutedKeyedStage)
        for key in keys:
            for cell in stage.find((key,)):
                assert owner((key,), PARTITIONS) == number
                if cell.state is not None:
                    found[key] = cell.state
    return found


def modelled(sent: list[tuple[int, int, Event]], share: float = math.inf) -> list[Model]:
    """Returns the model of each partition, which the job must match."""
    models = [Model(share) for _ in range(PARTITIONS)]
    for where, at, one in sent:
        models[where].process(at, one)
    return models


def outputs(h: Harness) -> list[list[Any]]:
    """Returns the values emitted for the keys of each partition."""
    found: list[list[Any]] = [[] for _ in range(PARTITIONS)]
    for record in h.records("out"):
        found[owner(((record.key() or b"").decode(),), PARTITIONS)].append(msgspec.json.decode(record.value() or b""))
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(step, max_size=50))
def test_states_and_outputs_are_those_of_a_loop_over_dicts(steps: list[Any]) -> None:
    h, sent = play(JOB, steps)
    models = modelled(sent)
    assert outputs(h) == [model.out for model in models]
    assert states(h) == {key: state for model in models for key, state in model.state.items()}
    refused = sum(one.refuse for _, _, one in sent)
    empty = sum(name == "array" and not rest[1] for name, *rest in steps)
    assert (h.routed.counted, h.routed.dead, h.counted) == (len(sent) - refused, refused + empty, len(sent) - refused)


@settings(max_examples=300, deadline=None)
@given(st.lists(restless, max_size=50))
def test_through_a_repartition_every_event_is_processed_once(steps: list[Any]) -> None:
    h, sent = play(replace(JOB, repartition=ROUTED, ttl=None), steps)
    good = [one for _, _, one in sent if not one.refuse]
    assert Counter(v[1] for v in h.values("out") if v[0] == "event") == Counter(one.id for one in good)
    empty = sum(name == "array" and not rest[1] for name, *rest in steps)
    assert (h.routed.counted, h.routed.dead) == (len(good), len(sent) - len(good) + empty)
    assert h.counted == len(good)
    if not any(one.delete for one in good):
        expected: Counter[str] = Counter()
        for one in good:
            expected[one.key] += one.amount
        assert {key: total % 1_000_000 for key, total in states(h).items()} == dict(expected)


@settings(max_examples=300, deadline=None)
@given(st.lists(restless, max_size=50), st.booleans())
def test_a_timer_fires_once_for_each_time_it_was_set(steps: list[Any], routed: bool) -> None:
    def start(ctx: Context[int], event: Event) -> None:
        ctx.timer(str(event.id), ctx.timestamp + (event.delay or 0))
        if event.refuse:
            raise PoisonError(Reason.INVALID, "refused")

    def fired(ctx: Context[int], name: str) -> None:
        assert ctx.watermark is not None
        assert ctx.watermark >= ctx.timestamp
        ctx.emit(OUT, [name, ctx.timestamp - BASE], ctx.key)

    job = replace(JOB, process=start, on_timer=fired, repartition=ROUTED if routed else None)
    h, sent = play(job, steps)
    for _ in range(2):  # the first lets those that never had an event hear of the others
        h.advance(10_000)
        h.run()
    due = [[str(one.id), at + (one.delay or 0)] for _, at, one in sent if not one.refuse]
    assert sorted(h.values("out")) == sorted(due)
    assert states(h) == {}
