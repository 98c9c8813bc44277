"""The links job without a broker: a list of records in, a list of results out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from weir.infra.config import Config
from weir.schemas.dead_letters import from_headers
from weir.schemas.times import from_rfc3339
from weir.schemas.topic import MAX_DEAD_LETTER
from weir.streams.engine.aggregates import partials
from weir.streams.engine.core.errors import UnreadableStateError
from weir.streams.engine.windowed.merge_windows import MergeState
from weir.streams.jobs import links
from weir.streams.testing import Harness

BASE = 1_750_000_020_000  # the start of a minute
MINUTE = 60_000
RELATIONS = [{"parent": "shop", "child": "cart"}, {"parent": "bank", "child": "pay"}]


def harness(partitions: int = 1) -> Harness:
    made = Harness(links.job(Config()), partitions, now_ms=BASE + 10 * MINUTE)
    made.send("relations", RELATIONS, timestamp=BASE)
    return made


def call(source: str = "cart", destination: str = "pay") -> dict[str, Any]:
    return {"source": source, "destination": destination, "method": "GET", "path": "/", "httpStatus": 200}


def counts(h: Harness) -> dict[tuple[str, str, str], tuple[int, bool]]:
    found = h.latest("link-counts").values()
    return {(c["window"]["start"], c["source"], c["destination"]): (c["count"], c["final"]) for c in found}


def closed(h: Harness) -> list[tuple[str, int, int]]:
    return [(c["window"]["start"], c["partition"], c["cells"]) for c in h.values("link-windows")]


def reasons(h: Harness) -> list[str]:
    return [from_headers(r.headers()).reason for r in h.records("dead-letters")]


def test_calls_between_children_count_for_their_parents_per_minute() -> None:
    h = harness()
    for at in (0, 1, MINUTE):
        h.send("communications", call(), BASE + at)
    h.run()
    assert counts(h) == {
        ("2025-06-15T15:07:00Z", "shop", "bank"): (2, False),
        ("2025-06-15T15:08:00Z", "shop", "bank"): (1, False),
    }


def test_an_array_counts_each_of_its_elements() -> None:
    h = harness()
    h.send("communications", [call(), call("pay", "cart"), call()], BASE)
    h.run()
    assert sorted(n for n, _ in counts(h).values()) == [1, 2]


def test_a_window_closes_when_the_watermark_passes_its_end_plus_grace() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.send("communications", call(), BASE + MINUTE + 4_999)
    h.run()
    assert closed(h) == []
    h.send("communications", call(), BASE + MINUTE + 5_000)
    h.run()
    assert closed(h) == [("2025-06-15T15:07:00Z", 0, 1)]
    assert counts(h)["2025-06-15T15:07:00Z", "shop", "bank"] == (1, True)


def test_an_event_within_the_grace_is_in_the_first_final_count() -> None:
    h = harness()
    for at in (0, MINUTE + 1_000, 2, MINUTE + 5_000):
        h.send("communications", call(), BASE + at)
    h.run()
    assert counts(h)["2025-06-15T15:07:00Z", "shop", "bank"] == (2, True)


def test_an_event_after_the_close_revises_the_final_count() -> None:
    h = harness()
    for at in (0, 2 * MINUTE):
        h.send("communications", call(), BASE + at)
    h.run()
    h.send("communications", call(), BASE + 1)
    h.run()
    first = [c for c in h.values("link-counts") if c["window"]["start"] == "2025-06-15T15:07:00Z"]
    assert [(c["count"], c["final"]) for c in first] == [(1, True), (2, True)]
    assert [start for start, _, _ in closed(h)].count("2025-06-15T15:07:00Z") == 1


def test_an_event_older_than_the_retention_is_late_and_kept_apart() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.send("communications", call(), BASE - 10 * MINUTE)
    h.send("communications", call(), BASE - 10 * MINUTE - 1)
    h.run()
    assert (h.routed.counted, h.routed.late) == (2, 1)
    (late,) = h.records("late-events")
    assert msgspec.json.decode(late.value() or b"") == call()
    assert from_headers(late.headers()).offset == 2


def test_a_silent_topic_still_closes_its_windows_also_the_empty_ones() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.run()
    h.advance(3 * MINUTE + 5_000)
    h.run()
    assert closed(h) == [(f"2025-06-15T15:{minute:02}:00Z", 0, 1 if minute == 7 else 0) for minute in (7, 8, 9)]


def test_a_window_closes_on_every_partition_also_on_those_without_cells() -> None:
    h = harness(partitions=4)
    h.send("communications", call(), BASE, partition=2)
    h.run()
    h.advance(MINUTE + 5_000)
    h.run()
    h.run()  # the partitions without events follow what the others have reached
    assert sorted(closed(h)) == [("2025-06-15T15:07:00Z", p, 1 if p == 3 else 0) for p in range(4)]


def test_a_partition_with_unread_events_holds_its_windows_open() -> None:
    h = harness(partitions=2)
    h.send("communications", call(), BASE, partition=0)
    h.send("communications", call(), BASE, partition=1)
    h.process("communications", 0)
    h.flush("communications", 0)
    h.advance(10 * MINUTE)
    h.idle("communications", 0)
    for p in (0, 1):
        h.process("links-partials", p)
        h.flush("links-partials", p)
    assert closed(h) == []


def test_a_partition_that_starts_later_than_the_others_loses_nothing() -> None:
    h = harness(partitions=2)
    for minute in range(30):
        h.send("communications", call(), BASE - 29 * MINUTE + minute * MINUTE, partition=0)
    h.run()
    h.run()
    for minute in range(30):
        h.send("communications", call(), BASE - 29 * MINUTE + minute * MINUTE, partition=1)
    h.run()
    assert h.routed.late == 0
    assert {n for n, _ in counts(h).values()} == {2}
    starts = [start for start, partition, _ in closed(h) if partition == 0]
    assert len(starts) == len(set(starts))


def test_a_moved_child_counts_for_its_new_parent_from_then_on() -> None:
    h = harness()
    h.send("relations", {"parent": "mall", "child": "cart"}, BASE + 10)
    for at in (9, 10):
        h.send("communications", call(), BASE + at)
    h.run()
    assert {(s, d): n for (_, s, d), (n, _) in counts(h).items()} == {("shop", "bank"): 1, ("mall", "bank"): 1}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"nope", "not-json"),
        (b"", "empty"),
        (None, "empty"),
        (b"[]", "empty"),
        (b"null", "invalid"),
        (b'{"source": 1, "destination": "pay"}', "invalid"),
        (b'{"source": "cart"}', "invalid"),
        (b'{"source": "cart", "destination": ""}', "invalid"),
        (b'{"source": "cart", "destination": "' + b"x" * 129 + b'"}', "invalid"),
        (b'{"source": "cart", "destination": "pay", "httpStatus": NaN}', "not-json"),
        (b'{"source": "cart", "destination": "pay", "httpStatus": "200"}', "invalid"),
        (b'{"source": "\xff", "destination": "pay"}', "not-utf8"),
        (b"[" * 10_000 + b"]" * 10_000, "nesting"),
        (b'{"source": "cart", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nesting"),
        (b'{"source": "cart", "destination": "nobody"}', "unknown-child"),
    ],
)
def test_bad_input_goes_to_the_dead_letters_with_its_bytes_and_stops_nothing(value: bytes | None, reason: str) -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.send("communications", value, BASE, key=b"k")
    h.send("communications", call(), BASE)
    h.run()
    assert reasons(h) == [reason]
    (dead,) = h.records("dead-letters")
    origin = from_headers(dead.headers())
    assert (dead.value(), dead.key()) == (value or b"", b"k")
    assert (origin.source, origin.partition, origin.offset, origin.job) == ("communications", 0, 1, "links")
    assert (h.routed.counted, h.routed.dead, h.counted) == (2, 1, 2)


@pytest.mark.parametrize("timestamp", [-1, -5, BASE + 10 * MINUTE + 5 * MINUTE + 1])
def test_a_timestamp_that_cannot_be_goes_to_the_dead_letters_and_moves_no_watermark(timestamp: int) -> None:
    h = harness()
    h.send("communications", call(), timestamp)
    h.send("communications", call(), BASE)
    h.run()
    assert reasons(h) == ["timestamp"]
    assert closed(h) == []
    assert h.routed.counted == 1


def test_one_bad_element_of_an_array_goes_to_the_dead_letters_alone() -> None:
    h = harness()
    h.send("communications", [call(), {"source": "cart"}, call("cart", "nobody"), call()], BASE)
    h.run()
    assert reasons(h) == ["invalid", "unknown-child"]
    assert [from_headers(r.headers()).element for r in h.records("dead-letters")] == [1, 2]
    assert h.records("dead-letters")[0].value() == b'{"source":"cart"}'
    assert h.routed.counted == 2


def test_a_bad_relation_goes_to_the_dead_letters_and_the_rest_holds() -> None:
    h = harness()
    h.send(
        "relations", [{"parent": "shop"}, {"parent": "bank", "child": "x\x07"}, {"parent": "zoo", "child": "z"}], BASE
    )
    h.send("communications", call("z", "cart"), BASE)
    h.run()
    assert reasons(h) == ["invalid", "not-json"] or reasons(h) == ["invalid", "invalid"]
    assert Counter(s for _, s, _ in counts(h)) == {"zoo": 1}


def test_a_crash_before_the_commit_changes_nothing() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.process("communications", 0)
    h.crash()
    h.run()
    h.send("communications", call(), BASE)
    h.process("communications", 0)
    h.flush("communications", 0)
    h.process("links-partials", 0)
    h.crash()
    h.run()
    assert counts(h) == {("2025-06-15T15:07:00Z", "shop", "bank"): (2, False)}


def test_a_changed_partition_count_is_refused() -> None:
    h = harness(partitions=1)
    h.send("communications", call(), BASE)
    h.run()
    other = Harness(h.job, 2, h.now_ms, h.topics, h.committed)
    with pytest.raises(Exception, match="topic communications has 2 partitions, but had 1"):
        other.run()


def test_an_empty_list_opens_no_window() -> None:
    h = harness()
    h.send("communications", b"[]", 0)
    h.send("communications", call(), BASE)
    h.run()
    h.advance(2 * MINUTE)
    h.run()
    assert [start for start, _, _ in closed(h)] == ["2025-06-15T15:07:00Z"]


def test_a_header_without_a_value_stops_nothing() -> None:
    h = harness()
    h.send("communications", b"nope", BASE, headers=[("weir.replayed_from", None)])  # type: ignore[list-item]
    h.run()
    assert reasons(h) == ["not-json"]


def test_a_message_larger_than_the_dead_letters_take_is_cut_and_says_so() -> None:
    h = harness()
    h.send("communications", b" " * (17 << 20), BASE, key=b"k" * (1 << 20))
    h.run()
    (dead,) = h.records("dead-letters")
    assert from_headers(dead.headers()).size == 17 << 20
    assert len(dead.value() or b"") + len(dead.key() or b"") < MAX_DEAD_LETTER


def test_a_time_that_the_calendar_cannot_hold_goes_to_the_dead_letters() -> None:
    h = harness()
    h.now_ms = 253_402_300_799_999
    h.send("communications", call(), 253_402_300_799_999)
    h.run()
    assert reasons(h) == ["timestamp"]


def test_a_partition_that_never_had_an_event_lets_old_windows_be_forgotten_also_across_restarts() -> None:
    h = harness(partitions=2)
    for minute in range(60):
        h.send("communications", call(), BASE + minute * MINUTE, partition=0)
        h.now_ms = max(h.now_ms, BASE + minute * MINUTE)
        h.run()
        h.run()
        h.crash()
    h.run()
    state = msgspec.json.decode(h.committed["links-partials", 1][1], type=MergeState)
    first_needed = h.records("link-counts")[state.restore_from or 0]
    assert from_rfc3339(msgspec.json.decode(first_needed.value() or b"")["window"]["start"]) > BASE + 20 * MINUTE


def test_a_flush_that_needs_several_partials_closes_nothing_before_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "ROOM", 1)
    h = harness()
    h.send("relations", {"parent": "zoo", "child": "z"}, BASE)
    for source in ("cart", "pay", "z"):
        h.send("communications", call(source, "z"), BASE)
    h.send("communications", call(), BASE + 9 * MINUTE)
    h.send("communications", call(), BASE + 12 * MINUTE)  # by now the first window is closed and forgotten
    for topic in ("relations", "communications"):
        h.process(topic, 0)
        h.flush(topic, 0)
    h.run(slice_size=1)
    first = [c["cells"] for c in h.values("link-windows") if c["window"]["start"] == "2025-06-15T15:07:00Z"]
    assert first == [3]
    assert sum(n for n, _ in counts(h).values()) == h.counted == 5


def test_time_that_passed_while_no_worker_ran_counts_for_idle_partitions() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.run()
    h.crash()
    h.advance(3 * MINUTE + 5_000)
    h.run()
    assert [start[14:16] for start, _, _ in closed(h)] == ["07", "08", "09"]
    h.advance(MINUTE)
    h.run()
    assert [start[14:16] for start, _, _ in closed(h)] == ["07", "08", "09", "10"]


def test_what_another_version_has_committed_is_refused_with_what_to_do() -> None:
    h = harness()
    h.send("communications", call(), BASE)
    h.run()
    for task in list(h.committed):
        h.committed[task] = h.committed[task][0], "[1]"
    h.crash()
    for topic in ("communications", "links-partials"):
        with pytest.raises(UnreadableStateError, match="weir reset"):
            h.process(topic, 0)
