"""A job's topics held against what they were when its offsets were committed: what does not fit is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from weir.infra import config as configuration
from weir.infra.kafka.client import Described
from weir.streams.engine.aggregates.partials import Partial, encode
from weir.streams.engine.core.errors import (
    EngineError,
    PartitionsChangedError,
    PartitionsDifferError,
    StateLostError,
    StateWithoutOffsetError,
    TopicReplacedError,
)
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import RESETTING, Log, read_committed, write_envelope, write_metadata
from weir.streams.engine.input.source import SourceState
from weir.streams.engine.progress.layout import PARTITIONS, Layout, intact
from weir.streams.engine.windowed.combine import CombineState
from weir.streams.jobs import links, monitoring_ids
from weir.streams.testing import FakeRecord

JOB = links.job(configuration.load({}))


def layout(job: Job = JOB, **changed: Any) -> Layout:
    """The job's topics with 4 partitions each, but those that are given (`_` for `-`): partitions, or id and those."""
    found = {name: Described(f"id-{name}"[::-1], 4) for name in Layout.names(job)} | {"relations": Described("r", 1)}
    for name, what in changed.items():
        topic = name.replace("_", "-")
        found[topic] = Described(found[topic].id, what) if isinstance(what, int) else Described(*what)
    return Layout(job, found)


def committed(before: Layout) -> Any:
    """Returns the commit of a task that runs with this layout."""
    state = write_metadata(CombineState(4, 4, SourceState(1, None, 1, 5, None, Routed())))
    return read_committed(5, write_envelope(state, before.known, None))


def test_what_is_as_it_was_is_let_through() -> None:
    layout().check()
    layout().unchanged("communications", [committed(layout())])


@pytest.mark.parametrize("topic", ["communications", "links_partials", "relations"])
def test_a_topic_that_has_grown_is_named_with_both_numbers_and_the_way_out(topic: str) -> None:
    before, name = layout(), topic.replace("_", "-")
    had = before.counts[name]
    with pytest.raises(PartitionsChangedError) as caught:
        layout(**{topic: had + 1}).unchanged("communications", [committed(before)])
    assert f"topic {name} has {had + 1} partitions, but had {had}" in str(caught.value)
    assert "`weir reset links`" in str(caught.value)


@pytest.mark.parametrize("topic", ["communications", "links_partials", "relations"])
def test_a_topic_that_was_made_anew_is_refused_whatever_its_partitions(topic: str) -> None:
    with pytest.raises(
        TopicReplacedError, match=f"topic {topic.replace('_', '-')} was deleted and created again.*weir reset"
    ):
        layout(**{topic: ("another", 2)}).unchanged("communications", [committed(layout())])


def test_ids_that_a_broker_does_not_have_say_nothing() -> None:
    layout(relations=(None, 1)).unchanged("communications", [committed(layout())])
    layout().unchanged("communications", [committed(layout(relations=(None, 1)))])


def test_of_an_offset_that_was_committed_without_an_envelope_the_state_says_how_many_partitions_there_were() -> None:
    before = read_committed(5, committed(layout()).state)
    layout(communications=5).unchanged("communications", [before])
    layout().unchanged_before("communications", before)
    with pytest.raises(PartitionsChangedError, match="communications has 5 partitions, but had 4"):
        layout(communications=5).unchanged_before("communications", before)


def test_a_reset_that_was_not_completed_is_told() -> None:
    with pytest.raises(StateWithoutOffsetError, match="`weir reset links` completes it"):
        layout().unchanged("communications", [read_committed(0, RESETTING)])


def test_topics_that_do_not_go_together_are_refused_before_anything_is_committed() -> None:
    with pytest.raises(
        PartitionsDifferError,
        match=r"links-partials has 4 partitions, .* needs 5, as many as link-counts.*`weir reset links`",
    ):
        layout(link_counts=5).check()
    with pytest.raises(EngineError, match=f"more than the limit of {PARTITIONS}"):
        layout(communications=PARTITIONS + 1).check()


def test_topics_that_the_broker_does_not_have_are_named() -> None:
    assert layout().missing == []
    assert Layout(JOB, {name: one for name, one in layout().found.items() if name != "relations"}).missing == [
        "relations"
    ]


def test_a_state_is_read_back_from_a_changelog_or_from_all_of_a_views_topic() -> None:
    found = {task.topic.name: layout().log_of(task.topic.name) for task in JOB.tasks}
    assert {name: topic and topic.name for name, topic in found.items()} == {
        "communications": None, "links-partials": "link-counts", "relations": "relations",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("now", "error", "said"),
    [
        (Log("aaaaaa", 10, 99), StateLostError, r"state\[2\] ends at offset 99, but reached 100 before"),
        (Log("aaaaaa", 11, 120), StateLostError, r"state\[2\] begins at offset 11, but began at 10 before"),
        (Log("bbbbbb", 10, 120), TopicReplacedError, "topic state was deleted and created again"),
    ],
)
def test_a_changelog_that_is_not_what_it_was_is_refused(now: Log, error: type[Exception], said: str) -> None:
    before = Log("aaaaaa", 10, 100)
    intact("job", "state", 2, before, Log("aaaaaa", 10, 100))
    with pytest.raises(error, match=f"{said}.*`weir reset job`"):
        intact("job", "state", 2, before, now)


def test_of_a_changelog_that_kafka_deletes_from_in_time_the_beginning_may_move() -> None:
    intact("job", "state", 2, Log("aaaaaa", None, 100), Log("aaaaaa", None, 120))


def test_a_partial_of_a_source_partition_that_the_table_does_not_know_is_refused() -> None:
    merge = JOB.open("links-partials", 0, layout().counts, lambda: 0)
    value = encode(Partial(4, 4, 0, 0, [], [], 1, 0))
    with pytest.raises(PartitionsChangedError, match="communications has 5 partitions, but had 4"):
        merge.process([FakeRecord("links-partials", 0, 0, None, value, 0)])


def test_every_job_commits_what_its_topics_are_in_the_order_of_its_tasks() -> None:
    job = monitoring_ids.job(configuration.load({}))
    assert [known.partitions for known in layout(job, monitoring_by_id=3).known] == [4, 3]
