"""Keyed state: what `process` does holds once or not at all, and what cannot be processed is set aside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from support.engine.keyed_script_job import BASE, JOB, OUT, ROUTED, VIA, Act, Total, act, both, harness, state
from weir.schemas.dead_letters import from_headers
from weir.streams.engine.core.errors import EngineError, PartitionsChangedError
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.keyed.stage import KeyedStage, RoutedKeyedStage


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
def test_what_is_written_has_the_time_that_it_was_given(job: Keyed[Act, Total]) -> None:
    def twice(ctx: Context[Total], act: Act) -> None:
        ctx.emit(OUT, b"the element's", "k")
        ctx.emit(OUT, b"another", b"k", timestamp=ctx.timestamp - 5)
        ctx.emit(OUT, b"1970", b"k", timestamp=0)

    h = harness(replace(job, process=twice))
    act(h, at=-5000)
    h.run()
    assert [(r.value(), r.key(), r.timestamp()[1]) for r in h.records("out")] == [
        (b"the element's", b"k", BASE - 5000),
        (b"another", b"k", BASE - 5005),
        (b"1970", b"k", 0),
    ]


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
        (("elsewhere", 1), r"elsewhere is not one of the job's outputs \(out\)"),
        (("timer", ("never ends", BASE)), "may only set later ones"),
        (("timer", ("refuses", BASE)), "'refuses' of key 'a' cannot be processed: there is nothing to refuse"),
    ],
)
def test_mistakes_of_the_job_end_it(job: Keyed[Act, Total], step: tuple[str, Any], says: str) -> None:
    h = harness(job)
    act(h, step)
    with pytest.raises(EngineError, match=says):
        h.run()


@both
def test_another_number_of_partitions_is_refused(job: Keyed[Act, Total]) -> None:
    h = harness(job, partitions=2)
    act(h, ("add", 1))
    h.run()
    assert {topic for topic, _ in h.committed} == {task.topic.name for task in job.tasks}
    for (topic, partition), (_, metadata) in h.committed.items():
        stage = job.open(topic, partition, {"acts": 3, "acts-routed": 2}, lambda: BASE)
        with pytest.raises(PartitionsChangedError, match="acts has 3 partitions, but had 2"):
            stage.restore(metadata)
        if job.repartition is not None:
            stage = job.open(topic, partition, {"acts": 2, "acts-routed": 3}, lambda: BASE)
            with pytest.raises(PartitionsChangedError, match="acts-routed has 3 partitions, but had 2"):
                stage.restore(metadata)


def test_what_a_job_must_be() -> None:
    with pytest.raises(ValueError, match="no type"):
        replace(JOB, source=OUT)
    with pytest.raises(ValueError, match="compacted"):
        replace(JOB, changelog=OUT)
    with pytest.raises(ValueError, match="ttl is 0 ms"):
        replace(JOB, ttl=0)
    with pytest.raises(ValueError, match="acts-routed takes smaller records than topic acts"):
        replace(VIA, repartition=replace(ROUTED, config={"max.message.bytes": "1000000"}))
    hour = replace(OUT, config={})
    with pytest.raises(ValueError, match=r"refuses records of topic out that are 3600000 ms ahead.*ANY_TIMESTAMP"):
        replace(JOB, outputs=(hour,), max_skew=3_600_000)
    replace(JOB, outputs=(hour,), max_skew=3_540_000)
    replace(JOB, outputs=(replace(OUT, config={"message.timestamp.type": "LogAppendTime"}),))
    assert JOB.shape({"acts": 2, "totals": 3, "out": 1}) == {"totals": 2}
    assert VIA.shape({"acts": 2, "acts-routed": 3, "totals": 2, "out": 1}) == {"acts-routed": 3, "totals": 3}
    assert [t.name for t in VIA.writes] == ["acts-routed", "totals", "out"]


@both
def test_a_stage_tells_what_became_of_its_events_how_far_it_is_and_what_it_holds(job: Keyed[Act, Total]) -> None:
    h = harness(job)
    h.run()
    act(h, ("add", 1))
    act(h, ("add", 2))
    h.run()
    source, table = h.stage("acts", 0), h.stage(job.tasks[-1].topic.name, 0)
    assert (source.routed, source.watermark) == (Routed(counted=2), table.watermark)
    assert table.cells == 1
    assert (table.routed is None) is (table is not source)
