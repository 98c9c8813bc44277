"""Jobs whose state is in RocksDB do what they do in memory, and go on from it after a restart."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine.page_views import pages
from unit.streams.engine import test_engine_properties as properties
from unit.streams.engine.keyed import test_keyed_capacity as capacities
from unit.streams.engine.keyed import test_keyed_properties as keyed
from weir.infra.config import Config
from weir.schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINKS_PARTIALS
from weir.streams.api import Keyed, SessionWindows, Windowed
from weir.streams.engine.aggregates.partials import ROOM
from weir.streams.engine.core.records import Stage
from weir.streams.jobs import links
from weir.streams.testing import Harness


def test_sessions_are_kept_in_memory() -> None:
    with pytest.raises(ValueError, match="sessions are kept in memory"):
        Windowed(
            name="sessions",
            source=COMMUNICATIONS,
            windows=SessionWindows(1000, 0, 1000),
            partials=LINKS_PARTIALS,
            output=LINK_COUNTS,
            key=["source"],
            store="rocksdb",
        )


class Kept:
    """A job, kept in RocksDB under `folder`."""

    def __init__(self, job: Windowed | Keyed[Any, Any], folder: Path) -> None:
        self._job, self._folder = dataclasses.replace(job, store="rocksdb"), folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def open(self, topic: str, partition: int, counts: Any, now_ms: Any, state: Path | None = None) -> Stage:
        return self._job.open(topic, partition, counts, now_ms, self._folder / f"{topic}-{partition}")


def played(steps: list[Any], retention: str) -> tuple[Harness, list[tuple[int, str, str]]]:
    with tempfile.TemporaryDirectory() as folder:
        h, sent = properties.play(steps, retention, lambda config: Kept(links.job(config), Path(folder)))
        h.crash()
        return h, sent


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_counts_equal_a_plain_counter(steps: list[Any]) -> None:
    h, sent = played(steps, retention="600000")
    assert properties.cells(h) == properties.truth(sent)


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_the_ledger_holds_and_nothing_is_counted_twice_when_events_are_late(steps: list[Any]) -> None:
    h, sent = played(steps, retention="20000")
    assert h.routed.accepted == len(sent)
    assert h.routed.counted == h.counted == sum(properties.cells(h).values())
    assert h.routed.late == len(h.records("late-events"))


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_a_window_is_closed_once_per_partition_also_after_crashes(steps: list[Any]) -> None:
    """RocksDB keeps the windows that a crash removes from memory."""
    h, _ = played(steps, retention="600000")
    closed = [(c["window"]["start"], c["partition"]) for c in h.values("link-windows")]
    assert len(closed) == len(set(closed))


def test_a_job_goes_on_from_rocksdb_without_its_changelog(tmp_path: Path) -> None:
    """The changelog is emptied between: nothing of it is needed."""
    h = Harness(Kept(links.job(Config()), tmp_path), 1, now_ms=properties.BASE)
    h.send("relations", [{"parent": "p", "child": "c"}], properties.BASE)
    for n in range(2):
        h.send("communications", {"source": "c", "destination": "c"}, properties.BASE + n)
        h.run()
        h.topics["link-counts", 0] = [r for r in h.topics["link-counts", 0] if n]
        h.crash()
    assert [c["count"] for c in h.latest("link-counts").values()] == [2]


def test_a_commit_amid_the_partials_of_one_flush_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    """The worker dies after Kafka's commit and before RocksDB is written."""
    h = Harness(Kept(pages(), tmp_path), 1, now_ms=properties.BASE)

    def send(number: int) -> None:
        views = [{"page": str(page), "user": "a", "worth": 1.0} for page in range(number)]
        h.send("views", views, properties.BASE)

    send(1)
    h.run()
    send(ROOM + 1)
    h.process("views", 0)
    h.flush("views", 0)
    h.process("page-partials", 0, 1)
    task = h._task("page-partials", 0)
    batch = task.stage.take(len(h.records("pages")))
    assert batch is not None
    h._commit(batch, ("page-partials", 0), task.position)
    h.crash("page-partials", 0)
    h.run()
    send(ROOM + 1)
    h.run()
    assert sum(value["count"] for value in h.latest("pages").values()) == h.counted == 1 + 2 * (ROOM + 1)
    h.crash()


@pytest.mark.parametrize("capacity", [None, 4])
@settings(max_examples=80, deadline=None)
@given(capacities.many)
def test_keyed_states_and_outputs_are_those_of_a_loop_over_dicts(capacity: int | None, steps: list[Any]) -> None:
    share = math.inf if capacity is None else 2
    with tempfile.TemporaryDirectory() as folder:
        h, sent = keyed.play(Kept(dataclasses.replace(keyed.JOB, capacity=capacity), Path(folder)), steps)
        models = keyed.modelled(sent, share)
        assert keyed.outputs(h) == [model.out for model in models]
        expected = {one: state for model in models for one, state in model.state.items()}
        assert keyed.states(h, capacities.KEYS) == expected
        h.crash()


def test_a_keyed_job_goes_on_from_rocksdb_without_its_changelog(tmp_path: Path) -> None:
    """State and timers: the changelog is emptied between."""
    job = dataclasses.replace(keyed.JOB, repartition=keyed.ROUTED)
    h = Harness(Kept(job, tmp_path), 1, now_ms=keyed.BASE)
    for n, delay in enumerate([300, None]):
        h.send("events", keyed.Event(n, f"k{n}", 5, False, False, delay), keyed.BASE + 200 * n)
        h.run()
        h.topics["table", 0] = []
        h.crash()
    h.send("events", keyed.Event(2, "k1", 6, False, False, None), keyed.BASE + 301)
    h.run()
    timer = ["timer", "k0", 300, 1_000_005]
    assert h.values("out") == [["event", 0, 5], ["event", 1, 5], timer, ["event", 2, 11]]
    h.crash()
