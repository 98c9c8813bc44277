"""Makes a job one that has never run: nothing of its state, its offsets and its output is left, and it recounts.

Whatever ends this in between, a worker that starts refuses to: every offset of the group is marked before anything is
deleted, and the group itself goes last. Running it again completes it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from infra import kafka
from infra.config import Config
from infra.worker_directory import Member, describe
from schemas.topic import Topic
from streams.engine.errors import EngineError
from streams.engine.job import Job
from streams.engine.offsets import RESETTING, Group
from streams.engine.transactions import TransactionalProducer

#: How long the broker has to let records of a topic be deleted.
PATIENCE_S = 15.0
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
        """Who is in the job's group: while anybody is, nothing can be reset."""
        return describe(self._admin, self._config.topic(self._job.name))

    def records(self, topic: Topic) -> int:
        """How many offsets a topic holds: records, and markers of transactions."""
        return sum(end - first for first, end in self._ends(topic))

    @property
    def state(self) -> Path:
        """The folder of the job's tables that are not in memory."""
        return self._config.home / "state" / self._config.topic(self._job.name)

    def fence(self) -> None:
        """Takes every transactional id over, so that no worker that was paused can go on; ends what they left open."""
        names = [f"{self._job.name}-{topic}-{p}" for topic, p in self._tasks()]
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

    def delete_records(self, topic: Topic) -> None:
        """Deletes what is in the topic now. The offsets of what is written later follow on those that were."""
        deletable = "delete" in topic.config.get("cleanup.policy", "delete")
        if not deletable:  # Kafka deletes no records of a topic that is only compacted
            self._set_policy(topic, "compact,delete")
        deadline = time.monotonic() + PATIENCE_S
        while any(first < end for first, end in self._ends(topic)):
            if time.monotonic() > deadline:
                raise EngineError(f"the records of topic {topic.name} cannot be deleted: is anybody writing to it?")
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
                    raise kafka.translate(e) from e
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
        entry: Any = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        name = self._config.topic(topic.name)
        wanted: Any = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        try:
            for future in self._admin.incremental_alter_configs([wanted]).values():
                future.result()
        except KafkaException as e:
            raise kafka.translate(e) from e

    def _meaning(self, error: KafkaException) -> Exception:
        if error.args[0].code() in _HAS_MEMBERS:
            name = self._job.name
            return EngineError(f"a worker of {name} was started meanwhile: stop it, and run `weir reset {name}` again")
        return kafka.translate(error)
