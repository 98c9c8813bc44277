"""Keyed state: what `process` does holds once or not at all, timers fire in event time, what is old goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from schemas.dead_letters import Reason, from_headers
from schemas.errors import PoisonError
from schemas.topic import Topic
from streams.engine.errors import EngineError, PartitionsChangedError
from streams.engine.keyed import Keyed
from streams.engine.keyed_context import Context
from streams.engine.keyed_stage import KeyedStage, RoutedKeyedStage
from streams.engine.partials import owner
from streams.engine.route import ENVELOPE
from streams.engine.route import decode as envelope
from streams.testing import Harness

BASE = 1_750_000_020_000


class Act(msgspec.Struct, frozen=True):
    """What one event has `process` do, as a script: each step a name and its arguments."""

    key: str
    steps: list[tuple[str, Any]]


class Total(msgspec.Struct):
    total: int
    seen: list[str] = []


ACTS = Topic("acts", "test", "", "", Act)
ROUTED = Topic("acts-routed", "test", "", "", None, config={"max.message.bytes": str(16 << 20)}, internal=True)
TABLE = Topic("totals", "test", "", "", None, config={"cleanup.policy": "compact"}, internal=True)
OUT = Topic("out", "test", "", "", None)
ELSEWHERE = Topic("elsewhere", "test", "", "", None)


def key(act: Act) -> str:
    if act.key == "nobody":
        raise PoisonError(Reason.INVALID, "nobody has no state")
    return act.key


def process(ctx: Context[Total], act: Act) -> None:
    for name, argument in act.steps:
        if name == "add":
            ctx.state = Total(ctx.state.total + argument if ctx.state else argument)
        elif name == "mutate":
            assert ctx.state is not None
            ctx.state.seen.append(argument)
        elif name == "delete":
            ctx.state = None
        elif name == "emit":
            ctx.emit(OUT, [argument, ctx.state and ctx.state.total, ctx.watermark], key=ctx.key)
        elif name == "elsewhere":
            ctx.emit(ELSEWHERE, argument)
        elif name == "timer":
            ctx.timer(*argument)
        elif name == "cancel":
            ctx.cancel(argument)
        elif name == "refuse":
            raise PoisonError(Reason.INVALID, argument)


def on_timer(ctx: Context[Total], name: str) -> None:
    ctx.emit(OUT, [ctx.key, name, ctx.timestamp], key=ctx.key)
    if name == "again":
        ctx.timer("again", ctx.timestamp + 10_000)
    elif name == "never ends":
        ctx.timer("never ends", ctx.timestamp)
    elif name == "refuses":
        raise PoisonError(Reason.INVALID, "there is nothing to refuse")


JOB = Keyed(
    name="totals", source=ACTS, changelog=TABLE, state=Total, key=key, process=process, on_timer=on_timer,
    outputs=(OUT,), max_skew=10_000_000,
)  # fmt: skip
DIRECT, VIA = JOB, replace(JOB, repartition=ROUTED)
both = pytest.mark.parametrize("job", [DIRECT, VIA], ids=["direct", "routed"])


def harness(job: Keyed[Act, Total], partitions: int = 1) -> Harness:
    return Harness(job, partitions, now_ms=BASE)


def act(h: Harness, *steps: tuple[str, Any], at: int = 0, who: str = "a", partition: int = 0, **more: Any) -> None:
    h.send("acts", {"key": who, "steps": steps}, BASE + at, partition, **more)


def state(h: Harness, who: str = "a", partition: int = 0) -> Any:
    """What the table says, and that it says the same once it is restored from its changelog."""
    topic = h.job.tasks[-1].topic.name
    found = []
    for _ in range(2):
        stage = h.stage(topic, partition)
        assert isinstance(stage, KeyedStage | RoutedKeyedStage)
        found.append(stage.find((who,)))
        h.crash()
    assert found[0] == found[1]
    return found[0][0] if found[0] else None


@both
def test_state_is_kept_per_key_and_restored(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("add", 1))
    act(h, ("add", 2), at=5)
    act(h, ("add", 40), who="b")
    h.run()
    h.crash()
    act(h, ("add", 4), at=7)
    h.run()
    assert (state(h).state.total, state(h, "b").state.total) == (7, 40)
    assert state(h).touched == BASE + 7
    assert h.routed.counted == h.counted == 4


@both
def test_what_was_not_committed_never_happened(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("add", 1), ("emit", "one"), ("timer", ("t", BASE + 5)))
    act(h, at=10)
    for _ in range(3):
        h.process("acts", 0)
        h.crash()
    assert not h.records("out")
    h.run()
    assert state(h).state.total == 1
    assert [v[0] for v in h.values("out")] == ["one", "a"]


@both
def test_deleted_state_is_a_tombstone(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("add", 1))
    h.run()
    act(h, ("delete", None), ("emit", "gone"))
    act(h, ("delete", None), who="never was")
    h.run()
    assert state(h) is None
    assert [(r.key(), r.value() is None) for r in h.records("totals")] == [(b"a", False), (b"a", True)]


@both
def test_an_object_that_is_not_assigned_changes_nothing(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("add", 1))
    act(h, ("mutate", "x"))
    h.run()
    act(h, ("mutate", "y"))
    h.run()
    assert state(h).state == Total(1, [])


@both
def test_a_refused_element_leaves_nothing_but_a_dead_letter(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("add", 1), ("timer", ("t", BASE + 900)))
    act(
        h, ("add", 2), ("emit", "no"), ("cancel", "t"), ("timer", ("u", BASE)), ("refuse", "for good"),
        at=3, key=b"of the record", headers=[("weir.replayed_from", b"0/7")],
    )  # fmt: skip
    act(h, ("emit", "yes"), at=4)
    act(h, who="nobody")
    h.run()
    cell = state(h)
    assert (cell.state.total, cell.timers, cell.touched) == (1, {"t": BASE + 900}, BASE)
    assert [v[:2] for v in h.values("out")] == [["yes", 1]]
    assert (h.routed.counted, h.routed.dead, h.counted) == (2, 2, 2)
    letters = {from_headers(r.headers()).offset: r for r in h.records("dead-letters")}
    origin = from_headers(letters[1].headers())
    assert (origin.reason, origin.detail, origin.source, origin.partition) == ("invalid", "for good", "acts", 0)
    assert (origin.timestamp, origin.replayed_from, origin.element) == (BASE + 3, "0/7", None)
    assert (letters[1].key(), letters[1].value()) == (b"of the record", h.records("acts")[1].value())
    assert from_headers(letters[3].headers()).detail == "nobody has no state"


@both
def test_of_an_array_only_what_is_refused_is_refused(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    good, bad = {"key": "a", "steps": [("add", 1)]}, {"key": "a", "steps": [("refuse", "no")]}
    h.send("acts", [good, bad, good], BASE)
    h.send("acts", [good, {"key": 7}, good, bad], BASE)
    h.send("acts", [], BASE)
    h.run()
    assert state(h).state.total == 4
    origins = [from_headers(r.headers()) for r in h.records("dead-letters")]
    assert {(o.offset, o.element) for o in origins} == {(0, 1), (1, 1), (1, 3), (2, None)}
    assert all(r.value() == msgspec.json.encode(bad) for r in h.records("dead-letters") if b"refuse" in r.value())


@both
@pytest.mark.parametrize("value", [None, b"", b"{", b'{"key":"a"}', b'{"key":"\xff","steps":[]}', b"[" * 100_000])
def test_poison_is_set_aside_among_good_records(job: Keyed[Act, Total], value: bytes | None) -> None:
    h = harness(job)
    for at in range(40):
        act(h, ("add", 1), at=at)
    h.send("acts", value, BASE)
    act(h, ("add", 1), at=-BASE - 5)
    act(h, ("add", 1), at=10_000_001)
    for at in range(40):
        act(h, ("add", 1), at=at)
    h.run()
    assert state(h).state.total == 80
    assert (h.routed.counted, h.routed.dead, len(h.records("dead-letters"))) == (80, 3, 3)


@both
def test_what_no_topic_takes_is_refused(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, who="k" * 20_000)
    act(h, ("emit", "x" * 1_100_000))
    act(h, ("add", 1), ("timer", ("n" * 1_100_000, BASE + 1)))
    act(h, ("add", 1))
    h.run()
    assert state(h).state.total == 1
    assert [from_headers(r.headers()).reason for r in h.records("dead-letters")] == ["too-large"] * 3


@both
def test_timers_fire_once_in_order_of_time_key_and_name(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("timer", ("late", BASE + 300)), ("timer", ("y", BASE + 200)), ("timer", ("x", BASE + 200)), who="b")
    act(h, ("timer", ("z", BASE + 200)), ("timer", ("moved", BASE + 200)), ("timer", ("gone", BASE + 100)))
    act(h, ("timer", ("moved", BASE + 100)), ("cancel", "gone"), at=1)
    h.run()
    h.crash()
    act(h, ("emit", "before"), at=99)
    act(h, ("emit", "after"), at=250)
    h.run()
    fired = [v[:2] for v in h.values("out")]
    assert fired == [["before", None], ["a", "moved"], ["a", "z"], ["b", "x"], ["b", "y"], ["after", None]]
    assert state(h) is None
    assert state(h, "b").timers == {"late": BASE + 300}


@both
def test_a_timer_that_is_due_fires_at_once_and_may_set_itself_again(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, ("timer", ("past", BASE - 5)), ("emit", "first"), ("timer", ("again", BASE)))
    act(h, ("emit", "last"), at=25_000)
    h.run()
    assert [v[2] - BASE if v[0] == "a" else v[0] for v in h.values("out")] == ["first", -5, 0, 10_000, 20_000, "last"]
    assert state(h).timers == {"again": BASE + 30_000}


@both
def test_what_is_written_has_the_time_that_it_was_given(job: Keyed[Act, Total]) -> None:
    def twice(ctx: Context[Total], act: Act) -> None:
        ctx.emit(OUT, b"now", "k")
        ctx.emit(OUT, b"then", b"k", timestamp=ctx.timestamp)

    h = harness(replace(job, process=twice))
    act(h, at=-5000)
    h.run()
    assert [(r.value(), r.key(), r.timestamp()[1]) for r in h.records("out")] == [
        (b"now", b"k", BASE),
        (b"then", b"k", BASE - 5000),
    ]


@both
def test_an_idle_partition_lets_timers_fire_by_the_clock(job: Keyed[Act, Total]) -> None:
    h = harness(job, partitions=3)
    act(h, ("timer", ("t", BASE + 60_000)), partition=owner(("a",), 3))
    h.run()
    h.advance(59_000)
    h.run()
    assert not h.values("out")
    h.crash()
    h.advance(1_000)
    h.run()
    assert [v[1] for v in h.values("out")] == ["t"]
    h.advance(600_000)
    h.run()
    assert len(h.values("out")) == 1


@both
def test_event_time_is_restored_and_an_old_event_does_not_turn_it_back(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h, at=1000)
    h.run()
    h.crash()
    act(h, ("emit", "old"), ("timer", ("past", BASE + 500)), at=10)
    h.run()
    assert h.values("out") == [["old", None, BASE + 1000], ["a", "past", BASE + 500]]


@both
def test_events_after_a_silence_say_again_how_far_event_time_is(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    act(h)
    h.run()
    h.advance(10_000)
    h.run()
    act(h, ("timer", ("t", BASE + 65_000)), at=60_000)
    h.run()
    h.advance(5_000)
    h.run()
    assert [v[1] for v in h.values("out")] == ["t"]


def test_event_time_is_unknown_until_every_source_was_heard_of() -> None:
    h = harness(VIA, partitions=2)
    act(h, ("emit", "alone"))
    assert h.step()
    assert h.step()
    assert h.values("out") == [["alone", None, None]]


def test_empty_envelopes_are_committed_when_it_is_quiet() -> None:
    h = harness(VIA, partitions=2)
    act(h)
    h.run()
    h.run()
    assert [h.committed["acts-routed", p][0] for p in (0, 1)] == [len(h.topics["acts-routed", p]) for p in (0, 1)]
    assert len(h.records("acts-routed")) == 4


@both
def test_a_key_that_is_not_written_expires_unless_a_timer_keeps_it(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, ttl=1000))
    act(h, ("add", 1))
    act(h, ("add", 1), who="kept")
    act(h, ("add", 1), ("timer", ("t", BASE + 5000)), who="timed")
    act(h, ("emit", "read"), at=999)
    act(h, ("add", 1), at=999, who="kept")
    h.run()
    assert state(h).state.total == 1
    act(h, ("emit", "expired"), at=1000)
    act(h, ("emit", "kept"), at=1001, who="kept")
    h.run()
    assert [v[:2] for v in h.values("out")] == [["read", 1], ["expired", None], ["kept", 2]]
    assert state(h) is None
    assert h.records("totals")[-1].value() is None
    act(h, at=5000)
    h.run()
    assert state(h, "timed").touched == BASE + 5000
    act(h, at=5999)
    h.run()
    assert state(h, "timed") is not None
    act(h, at=6000)
    h.run()
    assert (state(h, "timed"), state(h, "kept")) == (None, None)


@both
def test_an_old_event_does_not_make_a_key_old(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, ttl=1000))
    act(h, at=50_000)
    act(h, ("add", 1), at=0)
    act(h, ("emit", "still"), at=50_999)
    h.run()
    assert [v[:2] for v in h.values("out")] == [["still", 1]]


@both
def test_a_key_is_pending_until_its_batch_is_committed(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    h.run()
    topic = job.tasks[-1].topic.name
    act(h, ("add", 1))
    if topic != "acts":
        h.process("acts", 0)
        h.flush("acts", 0)
    h.process(topic, 0)
    stage = h.stage(topic, 0)
    assert isinstance(stage, KeyedStage | RoutedKeyedStage)
    assert stage.pending(("a",))
    assert not stage.pending(("b",))
    assert stage.take(0) is not None
    assert stage.pending(("a",))
    stage.committed()
    assert not stage.pending(("a",))
    assert stage.find(("a",))[0].state == Total(1, [])
    assert stage.watermark == BASE
    assert stage.find(("a", "b")) == []
    assert stage.take(0) is None


@both
@pytest.mark.parametrize(
    ("step", "says"),
    [
        (("elsewhere", 1), "elsewhere is not one of the job's outputs: out"),
        (("timer", ("never ends", BASE)), "is not later"),
        (("timer", ("refuses", BASE)), "'refuses' of key 'a' cannot be processed: there is nothing to refuse"),
    ],
)
def test_mistakes_of_the_job_end_it(job: Keyed[Act, Total], step: tuple[str, Any], says: str) -> None:
    h = harness(job)
    act(h, step)
    with pytest.raises(EngineError, match=says):
        h.run()


@both
def test_a_timer_needs_somebody_to_tell_and_a_whole_number(job: Keyed[Act, Total]) -> None:
    h = harness(replace(job, on_timer=None))
    act(h, ("timer", ("t", BASE)))
    with pytest.raises(EngineError, match="no on_timer"):
        h.run()
    h = harness(job)
    act(h, ("timer", ("t", 1.5)))
    with pytest.raises(TypeError, match="whole milliseconds"):
        h.run()


@both
def test_another_number_of_partitions_is_refused(job: Keyed[Act, Total]) -> None:
    h = harness(job, partitions=2)
    act(h, ("add", 1))
    h.run()
    assert {topic for topic, _ in h.committed} == {task.topic.name for task in job.tasks}
    for (topic, partition), (_, metadata) in h.committed.items():
        stage = job.open(topic, partition, {"acts": 3, "acts-routed": 2}, lambda: BASE)
        with pytest.raises(PartitionsChangedError, match="acts has 3 partitions, and had 2"):
            stage.restore(metadata)
        if job.repartition is not None:
            stage = job.open(topic, partition, {"acts": 2, "acts-routed": 3}, lambda: BASE)
            with pytest.raises(PartitionsChangedError, match="acts-routed has 3 partitions, and had 2"):
                stage.restore(metadata)


def test_what_a_job_must_be() -> None:
    with pytest.raises(ValueError, match="no type"):
        replace(JOB, source=OUT)
    with pytest.raises(ValueError, match="compacted"):
        replace(JOB, changelog=OUT)
    with pytest.raises(ValueError, match="longer than nothing"):
        replace(JOB, ttl=0)
    JOB.check({"acts": 2, "totals": 2})
    with pytest.raises(EngineError, match="totals and acts-routed must have the same"):
        VIA.check({"acts": 2, "acts-routed": 3, "totals": 2})
    assert [t.name for t in VIA.writes] == ["acts-routed", "totals", "out"]


def test_every_key_goes_to_its_owner() -> None:
    h = harness(VIA, partitions=3)
    for n in range(60):
        act(h, ("add", n), who=f"k{n % 20}", partition=n % 3)
    h.run()
    for n in range(20):
        assert state(h, f"k{n}", owner((f"k{n}",), 3)).state.total == 3 * n + 60
    assert h.routed.counted == h.counted == 60


def test_a_large_flush_is_several_envelopes_of_which_the_last_tells_the_time() -> None:
    h = harness(VIA)
    act(h, ("none", "x" * 3 * ENVELOPE))
    for n in range(30):
        act(h, ("add", 1), ("none", "x" * 100_000), at=n)
    act(h, ("none", "x" * 3 * ENVELOPE), at=30)
    act(h, ("add", 1), at=31)
    h.process("acts", 0)
    h.flush("acts", 0)
    sent = [envelope(r.value()) for r in h.records("acts-routed")]
    assert [len(e.rows) for e in sent] == [1, 10, 10, 10, 1, 1]
    assert [e.watermark for e in sent] == [None] * 5 + [BASE + 31]
    h.run()
    assert state(h).state.total == 31


def test_envelopes_fit_a_topic_that_sets_no_limit() -> None:
    h = harness(replace(VIA, repartition=replace(ROUTED, config={})))
    for n in range(30):
        act(h, ("add", 1), ("none", "x" * 100_000), at=n, key=b"k" * 100_000)
    for n in range(20_000):
        act(h, at=n)
    for n in range(3_000):
        act(h, at=n, who="é" * 300)
    act(h, ("none", "x" * 2_000_000))
    h.run()
    assert all(len(r.value()) < 1_000_000 for r in h.records("acts-routed"))
    assert (h.counted, h.routed.dead) == (23_030, 1)


def test_partitions_without_elements_are_told_the_time_now_and_then() -> None:
    h = harness(VIA, partitions=2)
    mine = owner(("a",), 2)
    for at in (0, 400, 999, 1000, 1001, 2000):
        act(h, at=at)
        h.process("acts", 0)
        h.flush("acts", 0)
    told = [[envelope(r.value()).watermark - BASE for r in h.topics["acts-routed", p]] for p in (mine, 1 - mine)]
    assert told == [[0, 400, 999, 1000, 1001, 2000], [0, 1000, 2000]]


def test_nobody_is_told_the_time_where_nothing_waits_for_it() -> None:
    h = harness(replace(VIA, on_timer=None), partitions=2)
    act(h, ("add", 1))
    h.run()
    h.advance(60_000)
    h.run()
    assert len(h.records("acts-routed")) == 1


def test_metadata_of_many_partitions_fits_an_offset() -> None:
    h = harness(VIA, partitions=128)
    for partition in range(128):
        act(h, ("add", 1), partition=partition)
    h.run()
    assert max(len(metadata) for _, metadata in h.committed.values()) <= 2048
