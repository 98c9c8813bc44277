"""Keyed state behind a repartition topic: elements reach the owner of their key, and so does event time."""

from __future__ import annotations

from dataclasses import replace

from support.engine.keyed_script_job import BASE, ROUTED, VIA, act, harness, state
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.keyed.repartition import ENVELOPE
from weir.streams.engine.keyed.repartition import decode as envelope


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
