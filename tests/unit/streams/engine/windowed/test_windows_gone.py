"""Windows whose results have reached the retention of their topic, and those after them that are still there whole."""

from __future__ import annotations

import msgspec
import pytest

from support.engine.page_views import pages
from weir.schemas.times import from_rfc3339
from weir.streams.engine.core.errors import StateLostError
from weir.streams.engine.windowed.job import Windowed
from weir.streams.engine.windowed.merge_windows import BEGINNINGS, Merge
from weir.streams.testing import FakeRecord, Harness

BASE = 1_750_000_020_000
MINUTE = 60_000
PARTIALS = "page-partials"


def view(h: Harness, minute: int) -> None:
    h.now_ms = max(h.now_ms, BASE + minute * MINUTE)
    h.send("views", {"page": "home", "user": "a", "worth": 1.0}, BASE + minute * MINUTE)
    h.run()


def cut(h: Harness, job: Windowed, first: int) -> Merge:
    """Stage two as it starts after Kafka has deleted the results before offset `first`."""
    stage = job.open(PARTIALS, 0, {"views": 1, PARTIALS: 1}, lambda: h.now_ms)
    assert isinstance(stage, Merge)
    stage.restore(h.committed[PARTIALS, 0][1])
    assert stage.forgo(first)
    stage.restore_cells(h.topics[job.output.name, 0][first:])
    return stage


def held(stage: Merge) -> list[int]:
    """The minutes of the windows that it has."""
    return [(found.start - BASE) // MINUTE for found in stage.find(("home",))]


def partial(h: Harness, minute: int) -> FakeRecord:
    """Returns the partial that stage one makes of one more view in that minute."""
    other = Harness(h.job, 1, now_ms=h.now_ms)
    other.send("views", {"page": "home", "user": "a", "worth": 1.0}, BASE + minute * MINUTE)
    other.process("views", 0)
    other.flush("views", 0)
    return FakeRecord(PARTIALS, 0, 1_000, None, other.topics[PARTIALS, 0][0].value(), 0)


def test_windows_of_which_results_were_deleted_are_not_closed_and_do_not_begin_again() -> None:
    job = pages()
    h = Harness(job, 1, now_ms=BASE)
    view(h, 0)
    written = len(h.records(job.output.name))
    h.crash()
    stage = cut(h, job, written)
    assert held(stage) == []
    with pytest.raises(StateLostError, match="reached the retention"):
        stage.process([partial(h, 0)])
    stage.process([partial(h, 60)])
    assert held(stage) == [60]
    batch = stage.take(written)
    assert batch is not None
    closed = [msgspec.json.decode(record.value or b"")["window"]["start"] for record in batch.produce]
    assert closed
    assert min(map(from_rfc3339, closed)) > BASE


def test_windows_that_began_behind_what_was_deleted_are_whole() -> None:
    job = pages()
    h = Harness(job, 1, now_ms=BASE)
    for minute in (0, 0, 1, 2, 1):
        view(h, minute)
    results = [from_rfc3339(v["window"]["start"]) for v in h.values(job.output.name)]
    first = results.index(BASE + MINUTE)
    h.crash()
    stage = cut(h, job, first)
    assert [(found.start, found.result) for found in stage.find(("home",))] == [
        (BASE + 2 * MINUTE, 1),
        (BASE + MINUTE, 2),
    ]
    stage.process([partial(h, 2)])
    with pytest.raises(StateLostError, match="reached the retention"):
        stage.process([partial(h, 0)])
    assert held(cut(h, job, first + 1)) == [2]  # one result of minute 1 is there still, and its first is not


def test_the_latest_windows_are_known_to_be_whole_also_where_many_are_kept() -> None:
    job = pages()
    h = Harness(job, 1, now_ms=BASE)
    minutes = 2 + BEGINNINGS
    for minute in range(minutes):
        view(h, minute)
    h.crash()
    assert held(cut(h, job, 1)) == [*range(minutes - 1, minutes - 1 - BEGINNINGS, -1)]
