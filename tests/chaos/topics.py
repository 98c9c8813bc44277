"""Changes topics under the jobs: adds partitions, makes a topic anew, deletes the beginning."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from weir.infra.config import Config
from weir.infra.kafka.client import admin, describe, ensure_topics
from weir.infra.kafka.trim import Trimmer, TrimRange
from weir.schemas.topic import Topic
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import registry as jobs

#: How long Kafka may take for one of these changes.
CHANGE_S = 60.0


def relied(config: Config, job: str) -> list[Topic]:
    """The topics that a job refuses to go on without: those it reads, and those it restores its state from."""
    tasks = jobs.make(job, config).tasks
    found = [topic for task in tasks for topic in (task.topic, task.changelog) if topic is not None]
    return list({topic.name: topic for topic in found}.values())


def place(config: Config, names: Iterable[str], pick: int) -> tuple[str, int]:
    """A topic that one of these jobs reads, and a partition of it."""
    read = [task.topic.name for name in names for task in jobs.make(name, config).tasks]
    topic = read[pick % len(read)]
    found = describe(admin(config), [config.topic(topic)], CHANGE_S)[config.topic(topic)]
    return topic, pick // len(read) % found.partitions


def grow(config: Config, *topics: str) -> None:
    """Adds a partition to each, and returns once the broker says so: it accepts a change before it applies it."""
    client = admin(config)
    found = describe(client, map(config.topic, topics), CHANGE_S)
    wanted = {name: one.partitions + 1 for name, one in found.items()}
    for future in client.create_partitions([NewPartitions(*each) for each in wanted.items()]).values():
        future.result()
    deadline = time.monotonic() + CHANGE_S
    while {name: one.partitions for name, one in describe(client, wanted, CHANGE_S).items()} != wanted:
        assert time.monotonic() < deadline, f"{', '.join(wanted)} did not grow within {CHANGE_S} s"


def make_anew(config: Config, topic: Topic) -> None:
    """Deletes a topic, and returns once there is another of its name; a worker that starts may have made it."""
    client, name = admin(config), config.topic(topic.name)
    before = describe(client, [name], CHANGE_S)[name].id
    for future in client.delete_topics([name]).values():
        future.result()
    deadline = time.monotonic() + CHANGE_S
    while True:
        now = describe(client, [name], CHANGE_S).get(name)
        if now is None:  # only then: while the broker still lists it, nothing is created, and a leader is waited for
            ensure_topics(config, [topic])
        elif now.id != before:
            return
        assert time.monotonic() < deadline, f"{name} was not made anew within {CHANGE_S} s"


def delete_committed(config: Config, names: Iterable[str]) -> int:
    """Deletes what these jobs have committed of what they read, as a retention does; how many offsets that were.

    What one of them writes for another stays, since it is held against the truth at the end; so do facts of a view.
    """
    made = [jobs.make(name, config) for name in names]
    written = {topic.name for job in made for topic in job.writes if not topic.internal}
    return sum(
        _delete(config, Group(config, job.name), task.topic)
        for job in made
        for task in job.tasks
        if task.topic.name not in written and (job.view is None or task.topic.name != job.view.topic.name)
    )


def _delete(config: Config, group: Group, topic: Topic) -> int:
    trimmer = Trimmer(config, topic)
    edges = trimmer.edges()
    committed = group.committed(topic.name, len(edges))
    return trimmer.delete(TrimRange(p, edges[p].first, one.offset, edges[p].end) for p, one in committed.items())
