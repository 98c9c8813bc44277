"""What of a topic is still needed, and by whom: weir's jobs, and the sinks that write to Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from consumers.readers import STORES
from infra import postgres
from infra.config import Config
from infra.errors import PostgresUnavailableError
from infra.trim import Hold
from schemas.topic import Topic
from streams import jobs
from streams.engine.job import Job, TaskTopic
from streams.engine.offsets import Group


def holds(config: Config, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    """All of them. What is committed and stored only ever grows, so what is free now stays so.

    Raises WeirError where Kafka does not answer.
    """
    for name in jobs.JOBS:
        job = jobs.make(name, config)
        if topic.internal and topic in job.writes:
            yield from _whole(partitions, f"it is job {name}'s own")
        elif job.view is not None and job.view.topic == topic:
            yield from _whole(partitions, f"job {name} reads all of it whenever a worker starts")
        else:
            yield from _of_tasks(Group(config, name), job, topic, partitions)
    for sink, tables in STORES.items():
        if any(table.topic == topic for table in tables):
            yield from _of_sink(config, sink, topic, partitions)


def _whole(partitions: Sequence[int], why: str) -> Iterator[Hold]:
    return (Hold(partition, 0, why) for partition in partitions)


def _of_tasks(group: Group, job: Job, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    for task in job.tasks:
        if task.topic == topic:
            committed = group.committed(topic.name, len(partitions))
            for partition in partitions:
                offset = committed[partition][0] if partition in committed else 0
                yield Hold(partition, offset, f"job {job.name} has not committed it")
        if task.changelog == topic:
            yield from _of_restore(group, job, task, len(partitions))


def _of_restore(group: Group, job: Job, task: TaskTopic, partitions: int) -> Iterator[Hold]:
    """From where on each task would read its state back, were it restored now: its own stage says it."""
    topics = {t.name for t in (*(task.topic for task in job.tasks), *job.writes)}
    counts = {name: group.partitions(name) for name in topics}
    for partition, (_, metadata) in group.committed(task.topic.name, partitions).items():
        stage = job.open(task.topic.name, partition, counts, lambda: time.time_ns() // 1_000_000)
        try:
            stage.restore(metadata)
            if stage.restore_from is not None:
                yield Hold(partition, max(0, stage.restore_from), f"job {job.name} restores its state from it")
        finally:
            stage.close()


def _of_sink(config: Config, sink: str, topic: Topic, partitions: Sequence[int]) -> Iterator[Hold]:
    """From where on the sink has not stored it. Where Postgres cannot say, all of it is held."""
    query = "SELECT partition, next_offset FROM sink_offsets WHERE sink = %s AND topic = %s"
    try:
        with postgres.connect(config, "weir-trim") as connection, postgres.translated():
            stored: dict[int, int] = dict(connection.execute(query, [sink, config.topic(topic.name)]).fetchall())
    except PostgresUnavailableError as e:
        yield from _whole(partitions, f"how far {sink} has stored it is not known: {e}")
        return
    for partition in partitions:
        yield Hold(partition, stored.get(partition, 0), f"{sink} has not stored it")
