"""Makes a job one that has never run: nothing of its state, its offsets and its output is left, and it recounts.

Whatever ends this in between, a worker that starts refuses to: every offset of the group is marked before anything is
deleted, and the group itself goes last. Running it again completes it.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka import topic_settings
from weir.infra.kafka.transactional import TransactionalProducer
from weir.infra.kafka.worker_directory import Member, describe
from weir.schemas.topic import Topic
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.offset_metadata import RESETTING
from weir.streams.engine.dataplane.transactions import former_id, transactional_id
from weir.streams.engine.progress.layout import Layout
from weir.streams.engine.progress.offsets import Group

#: Seconds that the broker has to delete a topic, or records of one. A busy one takes its time.
PATIENCE_S = 60.0
#: How many transactional ids are fenced at once.
AT_ONCE = 8

_HAS_MEMBERS = {KafkaError.NON_EMPTY_GROUP, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS}


class Reset:
    """The steps, in the order in which they are taken; each can be taken again. All block, and raise WeirError."""

    def __init__(self, config: Config, job: Job) -> None:
        self._config, self._job = config, job
        self._admin = kafka.admin(config)
        self._group = Group(config, job.name)
        self._partitions = {
            topic.name: self._group.partitions(topic.name)
            for topic in [*(task.topic for task in job.tasks), *job.writes]
        }

    def members(self) -> list[Member]:
        """Returns the members of the job's consumer group; a job with members cannot be reset."""
        return describe(self._admin, self._config, self._config.topic(self._job.name))

    def records(self, topic: Topic) -> int:
        """How many offsets a topic holds: records, and markers of transactions."""
        return sum(end - first for first, end in self._ends(topic))

    @property
    def state(self) -> Path:
        """The folder of the job's tables that are not in memory."""
        return self._config.home / "state" / self._config.topic(self._job.name)

    def fence(self) -> None:
        """Takes every transactional id over, so that no worker that was paused can go on; ends what they left open."""
        tasks = [(self._config, self._job.name, topic, p) for topic, p in self._tasks()]
        names = [name(*task) for task in tasks for name in (transactional_id, former_id)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda name: TransactionalProducer(self._config, name).open(), names):
                pass

    def mark(self) -> None:
        """Marks every offset of the group, in one request: from here on no worker starts."""
        offsets = [TopicPartition(self._config.topic(topic), p, 0, RESETTING) for topic, p in self._tasks()]
        marker: Any = kafka.consumer(self._config, self._job.name)
        try:
            marker.commit(offsets=offsets, asynchronous=False)
        except KafkaException as e:
            raise self._meaning(e) from e
        finally:
            marker.close()

    def configure(self) -> None:
        """Configures the job's topics, and those that its state is restored from, as they are declared."""
        logs = Layout(self._job, {}).logs
        topic_settings.update(self._config, {topic.name: topic for topic in [*self._job.writes, *logs]}.values())

    def reshape(self) -> None:
        """Gives the job's topics the numbers of partitions that go together: they hold nothing any more."""
        for name, partitions in self._job.shape(self._partitions).items():
            topic = next(one for one in self._job.writes if one.name == name)
            with kafka.translated(self._config):
                if self._partitions[name] < partitions:
                    grown = NewPartitions(self._config.topic(name), partitions)
                    self._admin.create_partitions([grown])[self._config.topic(name)].result()
                elif self._partitions[name] > partitions:
                    self._create_again(topic, partitions)
            self._partitions[name] = partitions

    def _create_again(self, topic: Topic, partitions: int) -> None:
        """Deletes the topic and creates it with fewer partitions: Kafka takes no partition away."""
        name = self._config.topic(topic.name)
        self._admin.delete_topics([name])[name].result()
        deadline = time.monotonic() + PATIENCE_S
        while self._group.describe([topic.name]):
            if time.monotonic() > deadline:
                raise EngineError(
                    f"topic {topic.name} still exists {PATIENCE_S:.0f} s after Kafka was asked to delete it: run "
                    f"`weir reset {self._job.name}` again"
                )
            time.sleep(0.1)
        kafka.ensure_topics(self._config, [dataclasses.replace(topic, partitions=partitions)])

    def delete_records(self, topic: Topic) -> None:
        """Deletes what is in the topic now. The offsets of what is written later follow on those that were."""
        deletable = "delete" in topic.config.get("cleanup.policy", "delete")
        if not deletable:  # Kafka deletes no records of a topic that is only compacted
            self._set_policy(topic, "compact,delete")
        deadline = time.monotonic() + PATIENCE_S
        while any(first < end for first, end in self._ends(topic)):
            if time.monotonic() > deadline:
                raise EngineError(
                    f"topic {topic.name} still has records {PATIENCE_S:.0f} s after Kafka was asked to delete them: "
                    f"stop the programs that write to it, and run `weir reset {self._job.name}` again"
                )
            self._delete_once(topic)
        if not deletable:
            self._set_policy(topic, topic.config["cleanup.policy"])

    def _delete_once(self, topic: Topic) -> None:
        name = self._config.topic(topic.name)
        places = [TopicPartition(name, p, OFFSET_END) for p in range(self._partitions[topic.name])]
        for future in self._admin.delete_records(places).values():
            try:
                future.result()
            except KafkaException as e:
                if e.args[0].code() != KafkaError.POLICY_VIOLATION:
                    raise kafka.translate(e, self._config) from e
                time.sleep(0.1)  # the broker takes a moment to hear of the change of policy

    def delete_state(self) -> None:
        """Deletes what this machine keeps of the job's tables."""
        if self.state.exists():
            shutil.rmtree(self.state)

    def delete_group(self) -> None:
        """Deletes the group with its offsets: the job is one that has never run."""
        name = self._config.topic(self._job.name)
        try:
            self._admin.delete_consumer_groups([name])[name].result()
        except KafkaException as e:
            if e.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._meaning(e) from e

    def _tasks(self) -> Iterator[tuple[str, int]]:
        for task in self._job.tasks:
            for partition in range(self._partitions[task.topic.name]):
                yield task.topic.name, partition

    def _ends(self, topic: Topic) -> list[tuple[int, int]]:
        return [self._group.ends(topic.name, p) for p in range(self._partitions[topic.name])]

    def _set_policy(self, topic: Topic, policy: str) -> None:
        topic_settings.alter(self._config, topic.name, {"cleanup.policy": policy})

    def _meaning(self, error: KafkaException) -> Exception:
        if error.args[0].code() in _HAS_MEMBERS:
            name = self._job.name
            return EngineError(
                f"a worker of job {name} was started during the reset: stop it, and run `weir reset {name}` again"
            )
        return kafka.translate(error, self._config)
