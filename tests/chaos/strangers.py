"""Strangers beside the jobs: leave transactions open on their topics, ask their workers and never read."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import psutil
from confluent_kafka import KafkaException, Message
from yarl import URL

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.status import read_all
from weir.streams.jobs import registry as jobs

#: So many connections to a worker; so many requests are sent on each, again and again, for a key of so many characters,
#: which stands in the answer, too.
CONNECTIONS, REQUESTS, KEY = 8, 100, 6_000
#: The most memory that a worker may have meanwhile, in bytes.
MEMORY = 400 << 20


class OpenTransaction:
    """A transaction with one record, begun now on a partition, and open until `end`."""

    def __init__(self, config: Config, topic: str, partition: int) -> None:
        self.topic, self.partition, self.offset = topic, partition, -1
        # Nobody but its producer ends it while a run lasts, whatever happens to the broker.
        self._producer = kafka.producer(
            config,
            **{"transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 900_000, "message.timeout.ms": 0},
        )
        self._producer.init_transactions(60)
        self._producer.begin_transaction()
        self._producer.produce(config.topic(topic), b"never", partition=partition, on_delivery=self._delivered)
        assert self._producer.flush(60) == 0, f"{topic}[{partition}] did not take a stranger's record"

    def _delivered(self, error: object, message: Message) -> None:
        assert error is None, error
        self.offset = message.offset() or 0

    def is_said(self, logs: Path) -> bool:
        """Whether a worker has said that this transaction is what it waits for."""
        wanted = {"event": "transaction.open", "topic": self.topic, "partition": self.partition, "offset": self.offset}
        return any(
            wanted.items() <= json.loads(line).items()
            for log in logs.glob("worker-*.log")
            for line in log.read_text().splitlines()
            if '"transaction.open"' in line and line.startswith("{")
        )

    def end(self) -> bool:
        """Aborts it; whether it is over: the broker may be away."""
        with suppress(KafkaException):
            self._producer.abort_transaction(1.0)
            return True
        return False


class NeverReads:
    """Connections to one worker over which answers are asked for, and none is read."""

    def __init__(self, pid: int, address: URL, request: bytes) -> None:
        self._process, self._asked = psutil.Process(pid), request * REQUESTS
        self._open: list[tuple[socket.socket, memoryview]] = []
        for _ in range(CONNECTIONS):
            with suppress(OSError):  # the worker may have been killed just now
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(5)
                client.connect((address.host, address.port))
                client.setblocking(False)
                self._open.append((client, memoryview(self._asked)))

    def ask(self) -> None:
        """Sends what the worker takes by now. Raises AssertionError where that is more than it has room for."""
        left = []
        for client, unsent in self._open:
            try:
                sent = client.send(unsent)
            except BlockingIOError:
                sent = 0
            except OSError:  # the worker has ended it, or has ended
                client.close()
                continue
            left.append((client, unsent[sent:] if sent < len(unsent) else memoryview(self._asked)))
        self._open = left
        with suppress(psutil.NoSuchProcess):
            memory = self._process.memory_info().rss
            assert memory < MEMORY, f"a worker has {memory >> 20} MB for clients that never read"

    def end(self) -> None:
        """Closes what is still open."""
        for client, _ in self._open:
            client.close()


class Strangers:
    """Keeps the strangers of one run. Each stays for at least as long as it was told to."""

    def __init__(self, config: Config, logs: Path) -> None:
        self._config, self._logs = config, logs
        self._transactions: list[tuple[float, OpenTransaction]] = []
        self._clients: list[tuple[float, NeverReads]] = []

    @property
    def are_there(self) -> bool:
        """Whether any of them is."""
        return bool(self._transactions or self._clients)

    def leave_open(self, topic: str, partition: int, seconds: float) -> None:
        """Begins a transaction that is aborted after so many seconds, once a worker has said that it waits for it."""
        self._transactions.append((time.monotonic() + seconds, OpenTransaction(self._config, topic, partition)))

    def never_read(self, workers: Mapping[Popen[bytes], str], seconds: float) -> int:
        """Asks these workers (process to job) and reads nothing for so many seconds; how many there are to be asked."""
        names = {process.pid: job for process, job in workers.items()}
        found = [
            said for said in read_all(self._config) if said.pid in names and said.address and said.state != "stopped"
        ]
        for said in found:
            table = jobs.make(names[said.pid], self._config).table
            name = table.name if table is not None else "none"
            request = f"GET /tables/{name}/{'x' * KEY} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            client = NeverReads(said.pid, URL(said.address or ""), request)
            self._clients.append((time.monotonic() + seconds, client))
        return len(found)

    def tick(self) -> None:
        """Lets them go on, and go whose time has come."""
        now = time.monotonic()
        for client in self._clients:
            client[1].ask()
            if now >= client[0]:
                client[1].end()
        self._clients = [client for client in self._clients if now < client[0]]
        for one in [one for one in self._transactions if now >= one[0]]:
            if one[1].is_said(self._logs) and one[1].end():
                self._transactions.remove(one)
