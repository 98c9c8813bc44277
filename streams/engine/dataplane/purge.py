"""Deletes from a job's own topics what is committed (KIP-107), as Kafka Streams does with its repartition topics.

Such a topic has one reader, the job's own next stage, and no retention: what that stage has committed is never read
again. The worker that has a partition's task deletes what this task has committed.

Kafka deletes by a topic's name. So a worker that was paused while its topic was deleted and made anew would delete what
the new topic holds: the topic's id (KIP-516) is compared right before. A pause between that answer and the deletion is
a race that remains, since a DeleteRecords request has no room for an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.kafka import client as kafka
from weir.infra.log import get_logger
from weir.streams.engine.core.job import Job
from weir.streams.engine.progress.layout import Layout

log = get_logger(__name__)

#: How often a worker deletes, in seconds: Kafka Streams' repartition.purge.interval.ms.
PURGE_S = 30.0
#: How long the broker has to answer.
TIMEOUT_S = 15.0

#: What does not pass by itself: the user may not delete, or the topic's cleanup.policy forbids it.
_REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
}

Partition = tuple[str, int]


class Purge:
    """Deletes in `topics`, each of which is read by one task per partition. Used by one thread at a time."""

    def __init__(self, config: Config, job: Job) -> None:
        written = {topic.name for topic in job.writes}
        #: The topics between the job's own stages.
        self.topics = frozenset(t.topic.name for t in job.tasks if t.topic.internal and t.topic.name in written)
        self._config, self._job = config, job.name
        self._admin: Any = None
        self._deleted: dict[Partition, int] = {}
        self._refused: set[str] = set()

    def delete(self, committed: Mapping[Partition, int], layout: Layout) -> None:
        """Deletes up to the offset that is committed of each partition, where its topic still is that of `layout`;
        blocks, for two requests.

        Where Kafka is away the next call tries again. Where the broker refuses, by its ACLs (DELETE on the topic) or by
        a cleanup.policy without `delete`, the log says so once and the topic is left alone: it grows.
        """
        places = {
            TopicPartition(self._config.topic(own[0]), own[1], offset): (own, offset)
            for own, offset in committed.items()
            if own[0] in self.topics - self._refused and offset > self._deleted.get(own, 0)
        }
        if not places:
            return
        if self._admin is None:
            self._admin = kafka.admin(self._config)
        now = kafka.describe(self._admin, {place.topic for place in places}, TIMEOUT_S)
        places = {
            place: (own, offset)
            for place, (own, offset) in places.items()
            if place.topic in now and now[place.topic].id == layout.found[own[0]].id
        }
        if not places:
            return
        answers = self._admin.delete_records(list(places), request_timeout=TIMEOUT_S)
        for place, future in answers.items():
            own, offset = places[place]
            try:
                future.result()
                self._deleted[own] = offset
            except KafkaException as e:
                self._not_deleted(own[0], e)

    def _not_deleted(self, topic: str, why: KafkaException) -> None:
        error = kafka.translate(why, self._config)
        if isinstance(error, RetryableError):
            log.debug("purge.away", topic=topic, error=str(error))
        elif why.args[0].code() not in _REFUSALS:
            log.warning("purge.failed", job=self._job, topic=topic, error=str(error))
        elif topic not in self._refused:
            self._refused.add(topic)
            remedy = f"allow DELETE on the topic and cleanup.policy=delete; until then {topic} only grows"
            log.warning("purge.refused", job=self._job, topic=topic, error=str(error), remedy=remedy)
