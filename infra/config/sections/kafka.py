"""Settings of Kafka: where it is, and the topics that weir makes there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from weir.infra.config.settings import Section, port, setting, whole

#: Half of what the name of a topic may have.
_LONGEST_PREFIX = 124


def _brokers(text: str) -> str:
    for broker in text.split(","):
        host, _, number = broker.strip().rpartition(":")
        if not host or not re.fullmatch(r"\d{1,5}", number, re.ASCII) or not 0 < int(number) < 65536:
            raise ValueError("must be host:port, or several with commas between them")
    return text


def _prefix(text: str) -> str:
    """Returns the text if it can begin names of topics (Kafka: at most 249 of these characters) and of folders,
    whatever follows.
    """
    if not re.fullmatch(rf"([a-zA-Z0-9_-][a-zA-Z0-9._-]{{0,{_LONGEST_PREFIX - 1}}})?", text):
        raise ValueError(f"at most {_LONGEST_PREFIX} letters, digits, '.', '_' and '-', the first of them no '.'")
    return text


@dataclass(frozen=True)
class KafkaConfig(Section):
    """`url` is None for the embedded Kafka."""

    url: str | None = setting(
        "WEIR_KAFKA", None, _brokers, "host:port[,host:port] of a Kafka that exists; not set: the embedded one"
    )
    controller_port: int = port("WEIR_KAFKA_CONTROLLER_PORT", 1, 9093, "the embedded Kafka's controller port")
    port: int = port("WEIR_KAFKA_PORT", 0, 9092, "the embedded Kafka's port")
    topic_prefix: str = setting("WEIR_TOPIC_PREFIX", "", _prefix, "put before every topic, group and transactional id")
    partitions: int = whole("WEIR_PARTITIONS", 4, 1, 128, "partitions of the topics that weir makes")
    replication: int = whole("WEIR_REPLICATION", 1, 1, 15, "replication factor of the topics that weir makes")

    @property
    def bootstrap(self) -> str:
        """Where Kafka is: `WEIR_KAFKA`, or the embedded one."""
        return self.url or f"127.0.0.1:{self.port}"

    def topic(self, name: str) -> str:
        """The topic's name on the broker."""
        return self.topic_prefix + name
