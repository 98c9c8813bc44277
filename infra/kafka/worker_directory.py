"""Where a job's workers are, and which partitions each of them has: the coordinator of their group knows.

A worker's client id is its address. It joins the group with it, and whoever describes the group (KIP-222) reads it
there: an assignment and the address of who has it come in one answer, and are never at odds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.single_flight import SingleFlight
from weir.infra.runtime.threads import in_daemon

#: How old an answer of the coordinator may be, in seconds.
FRESH_S = 1.0
#: The same for whoever was sent to the wrong place by it.
AFTER_A_MISS_S = 0.1
#: How long the coordinator has for an answer, in seconds.
_PATIENCE_S = 5.0
_NAME = "weir@"


class Member(NamedTuple):
    """One member of a group: `client` is its client id, `partitions` are (topic on the broker, partition).

    A group that is being balanced has members, and none of them has partitions.
    """

    client: str
    host: str
    partitions: frozenset[tuple[str, int]]

    @property
    def address(self) -> str | None:
        """host:port where it serves HTTP; None where it is no worker of weir's."""
        return self.client.removeprefix(_NAME) if self.client.startswith(_NAME) else None


def client_id(host: str, port: int) -> str:
    """The client id of a worker that is reached there.

    >>> client_id("::1", 80), Member(client_id("a", 80), "", frozenset()).address
    ('weir@[::1]:80', 'a:80')
    """
    return f"{_NAME}[{host}]:{port}" if ":" in host else f"{_NAME}{host}:{port}"


def describe(client: AdminClient, config: Config, group: str) -> list[Member]:
    """The members of a group; none where there is no such group. Blocks; raises KafkaUnavailableError."""
    return _described(client, config, [group])[group]


def crews(client: AdminClient, config: Config) -> dict[str, list[Member]]:
    """The members of every group of this weir's that has workers. Blocks; raises KafkaUnavailableError."""
    with kafka.translated(config):
        listed = client.list_consumer_groups(request_timeout=_PATIENCE_S).result()
    groups = [group.group_id for group in listed.valid if group.group_id.startswith(config.topic(""))]
    found = _described(client, config, groups)
    return {group: members for group, members in found.items() if any(member.address for member in members)}


def _described(client: AdminClient, config: Config, groups: Sequence[str]) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    answers = client.describe_consumer_groups(list(groups), request_timeout=_PATIENCE_S) if groups else {}
    for group, answer in answers.items():
        try:
            found[group] = [_member(member) for member in answer.result().members]
        except KafkaException as e:
            if e.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise kafka.translate(e, config) from e
            found[group] = []
    return found


def _member(described: Any) -> Member:
    partitions = frozenset((tp.topic, tp.partition) for tp in described.assignment.topic_partitions)
    return Member(described.client_id, described.host.removeprefix("/"), partitions)


class WorkerDirectory:
    """The workers of one job, asked as often as wanted."""

    def __init__(self, config: Config, job: str) -> None:
        self._client, self._group = kafka.admin(config), config.topic(job)
        self._members = SingleFlight(lambda: in_daemon(lambda: describe(self._client, config, self._group)))

    async def members(self, max_age: float = FRESH_S) -> Sequence[Member]:
        """Returns all workers of the job, as of at most `max_age` seconds ago. Raises KafkaUnavailableError."""
        return await self._members.get(max_age)

    async def addresses(self, max_age: float = FRESH_S) -> list[str]:
        """host:port of every worker that serves HTTP."""
        return [member.address for member in await self.members(max_age) if member.address is not None]

    async def owner(self, topic: str, partition: int, max_age: float = FRESH_S) -> str | None:
        """host:port of the worker that has the partition of `topic` (its name on the broker); None: nobody now."""
        for member in await self.members(max_age):
            if (topic, partition) in member.partitions:
                return member.address
        return None
