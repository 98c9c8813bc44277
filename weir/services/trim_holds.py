"""Retention holds: which offsets of a topic weir's jobs and the sinks that write to Postgres still need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weir.consumers import registry as consumers
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError
from weir.infra.kafka.trim import Hold
from weir.infra.runtime.clock import wall_clock
from weir.schemas.topic import Topic
from weir.streams.engine.core.job import Job, TaskTopic
from weir.streams.engine.progress.lag import GroupProgress
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import registry as jobs


def holds(config: Config, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    """Yields every hold on the topic. Committed and stored offsets only grow, so what is free now stays free.

    Raises WeirError where Kafka does not answer.
    """
    for name in jobs.JOBS:
        job = jobs.make(name, config)
        if topic.internal and topic in job.writes:
            yield from _whole(partitions, f"it is job {name}'s own")
        elif job.view is not None and job.view.topic == topic:
            yield from _whole(partitions, f"job {name} reads all of it whenever a worker starts")
        else:
            yield from _of_tasks(config, Group(config, name), job, topic, partitions)
    for sink, tables in consumers.tables(config).items():
        if any(table.topic == topic for table in tables):
            yield from _of_sink(config, sink, topic, partitions)


def _whole(partitions: Sequence[int], why: str) -> Iterator[Hold]:
    return (Hold(partition, 0, why) for partition in partitions)


def _of_tasks(config: Config, group: Group, job: Job, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    for task in job.tasks:
        if task.topic == topic:
            for (_, partition), place in GroupProgress(config, group).ask({topic.name: len(partitions)}).items():
                yield Hold(partition, place.following, f"job {job.name} has not committed it", place.committed)
        if task.changelog == topic:
            yield from _of_restore(group, job, task, len(partitions))


def _of_restore(group: Group, job: Job, task: TaskTopic, partitions: int) -> Iterator[Hold]:
    """Yields the offsets from which each task would read its state back if it were restored now."""
    topics = {t.name for t in (*(task.topic for task in job.tasks), *job.writes)}
    counts = {name: group.partitions(name) for name in topics}
    for partition, known in group.committed(task.topic.name, partitions).items():
        stage = job.open(task.topic.name, partition, counts, wall_clock)
        try:
            stage.restore(known.state)
            if stage.restore_from is not None:
                yield Hold(partition, max(0, stage.restore_from), f"job {job.name} restores its state from it")
        finally:
            stage.close()


def _of_sink(config: Config, sink: str, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    """Yields the offsets that the sink has not stored yet; all offsets if Postgres does not answer."""
    query = "SELECT partition, next_offset FROM sink_offsets WHERE sink = %s AND topic = %s"
    try:
        with postgres.connect(config, "weir-trim") as connection, postgres.translated():
            stored: dict[int, int] = dict(connection.execute(query, [sink, config.topic(topic.name)]).fetchall())
    except PostgresUnavailableError as e:
        yield from _whole(partitions, f"how far {sink} has stored it is not known: {e}")
        return
    for partition in partitions:
        yield Hold(partition, stored.get(partition, 0), f"{sink} has not stored it")
