"""How topics are configured: where the broker has something else than what is declared, and setting it as declared.

Kafka's settings of topics: https://kafka.apache.org/41/configuration/topic-configs/
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, WeirError
from weir.infra.kafka.client import admin, translate, translated
from weir.schemas.topic import Topic, declared

POLICY, AGE, SIZE = "cleanup.policy", "retention.ms", "retention.bytes"
#: How long the broker has to say of itself what it was told, in seconds.
PATIENCE_S = 15.0
_UNSEEN = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
#: So many differences are named in one line.
FEW = 4


class Difference(NamedTuple):
    """A setting that the broker has otherwise than it is declared. `topic` is the name in the list of topics.

    >>> print(Difference("relations", "retention.ms", "604800000", "-1"))
    topic relations has retention.ms=604800000, declared is -1
    """

    topic: str
    setting: str
    broker: str
    declared: str

    def __str__(self) -> str:
        return f"topic {self.topic} has {self.setting}={self.broker}, declared is {self.declared}"


def differences(topic: Topic, broker: Mapping[str, str]) -> list[Difference]:
    """Where the broker's settings of a topic are not the declared ones. What is not declared is the broker's to say."""
    return [
        Difference(topic.name, setting, broker.get(setting, ""), value)
        for setting, value in declared(topic).items()
        if _normal(setting, broker.get(setting, "")) != _normal(setting, value)
    ]


def losses(topic: Topic, broker: Mapping[str, str]) -> list[Difference]:
    """Selects the differences by which Kafka deletes what the declaration keeps: records of a topic that is to be
    compacted only, older ones than declared, all but the latest of a key.

    >>> changelog = Topic("state", "", "", "", None, config={"cleanup.policy": "compact"})
    >>> for found in losses(changelog, {"cleanup.policy": "delete", "retention.ms": "604800000"}):
    ...     print(found)
    topic state has cleanup.policy=delete, declared is compact
    """
    wanted = declared(topic)
    found = {one.setting: one for one in differences(topic, broker)}
    lost = []
    if POLICY in found:
        compacts = "compact" in _policy(broker) and "compact" not in _policy(wanted)
        deletes = "delete" not in _policy(wanted) and min(_limit(broker, AGE), _limit(broker, SIZE)) < math.inf
        lost += [found[POLICY]] if compacts or deletes else []
    return lost + [
        found[setting]
        for setting in (AGE, SIZE)
        if setting in found and _limit(broker, setting) < _limit(wanted, setting)
    ]


def settings(client: AdminClient, names: Iterable[str], timeout: float = PATIENCE_S) -> dict[str, dict[str, str]]:
    """Returns all settings of each of these topics, the broker's defaults included. Leaves out topics that do not
    exist, and topics whose settings this client may not read. Raises KafkaException, also after `timeout` seconds.
    """
    wanted = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    asked = client.describe_configs(wanted, request_timeout=timeout) if wanted else {}
    found = {}
    for resource, future in asked.items():
        try:
            entries = future.result()
        except KafkaException as e:
            if e.args[0].code() not in _UNSEEN:
                raise
            continue
        found[resource.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return found


def compared(config: Config, topics: Iterable[Topic], timeout: float = PATIENCE_S) -> dict[str, list[Difference]]:
    """Where each topic is not configured as declared; topics as in `settings` are left out. Raises WeirError."""
    names = {config.topic(topic.name): topic for topic in topics}
    with translated(config):
        found = settings(admin(config), names, timeout)
    return {names[name].name: differences(names[name], broker) for name, broker in found.items()}


def differing(config: Config, topics: Iterable[Topic], timeout: float = PATIENCE_S) -> list[Difference]:
    """Returns the differences that `compared` finds, of all topics in one list."""
    return [one for found in compared(config, topics, timeout).values() for one in found]


def summary(different: Sequence[Difference]) -> str:
    """One line for whoever runs the Kafka."""
    shown = "; ".join(str(one) for one in different[:FEW])
    more = f"; and {len(different) - FEW} more settings" if len(different) > FEW else ""
    return f"{shown}{more}: `weir topics --update` configures topics as declared"


def update(config: Config, topics: Iterable[Topic]) -> list[Difference]:
    """Sets what is not as declared, of the topics that the broker has. Returns what was different.

    Raises WeirError where a topic cannot be configured.
    """
    changed = differing(config, topics)
    for name in dict.fromkeys(one.topic for one in changed):
        alter(config, name, {one.setting: one.declared for one in changed if one.topic == name})
    return changed


def alter(config: Config, topic: str, values: Mapping[str, str]) -> None:
    """Sets settings of a topic and keeps the rest (KIP-339). Returns once the broker answers with the new values: it
    accepts a change before it applies it, and whoever starts in between would see the old ones.

    Raises WeirError where the topic cannot be configured, KafkaUnavailableError after `PATIENCE_S` seconds.
    """
    entries: Any = [
        ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET) for setting, value in values.items()
    ]
    client, name = admin(config), config.topic(topic)
    resource: Any = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    for future in client.incremental_alter_configs([resource]).values():
        try:
            future.result()
        except KafkaException as e:
            error = translate(e, config, name)
            if isinstance(error, KafkaUnavailableError):
                raise error from e
            raise WeirError(f"topic {name} cannot be configured: {error}") from e
    deadline = time.monotonic() + PATIENCE_S
    while left := _unapplied(config, client, name, values):
        if time.monotonic() > deadline:
            raise KafkaUnavailableError(f"Kafka accepted a change and has not applied it yet: topic {name} has {left}")
        time.sleep(0.05)


def _unapplied(config: Config, client: AdminClient, name: str, values: Mapping[str, str]) -> str:
    """The settings that the broker still has otherwise; none where it has no such topic, or none to be read."""
    with translated(config):
        broker = settings(client, [name]).get(name)
    if broker is None:
        return ""
    other = {key: broker.get(key, "") for key, value in values.items()}
    return ", ".join(f"{key}={old}" for key, old in other.items() if _normal(key, old) != _normal(key, values[key]))


def _policy(values: Mapping[str, str]) -> set[str]:
    return {one.strip() for one in values.get(POLICY, "delete").split(",")}


def _limit(values: Mapping[str, str], setting: str) -> float:
    """How much is kept by age or by size, as far as `values` say."""
    limit = int(values.get(setting) or -1) if "delete" in _policy(values) else -1
    return math.inf if limit < 0 else limit


def _normal(setting: str, value: str) -> object:
    return _policy({POLICY: value}) if setting == POLICY else value
