"""The helpers that benchmarks share: a Kafka, events to count, workers that count them, and their progress."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil
from confluent_kafka import KafkaException, Producer

from weir.infra.config import Config, load
from weir.infra.kafka.client import admin, ensure_topics, producer
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.infra.servers.server import running
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.jobs.registry import make

MINUTE = 60_000
#: How long anything may take that is waited for, without a step forward.
PATIENCE_S = 120.0


@contextmanager
def kafka(**settings: Any) -> Iterator[Config]:
    """A configuration with a Kafka that answers (`WEIR_KAFKA`, else an embedded one), a home and a prefix of its own.

    Its topics are made, and deleted at the end.
    """
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    with TemporaryDirectory(prefix="weir-bench-") as home:
        config = load(os.environ).replace(WEIR_HOME=Path(home), WEIR_TOPIC_PREFIX=prefix, **settings)
        if config.kafka.url:
            yield from _with_topics(config)
        else:
            port, controller = free_ports(2)
            config = config.replace(WEIR_KAFKA_PORT=port, WEIR_KAFKA_CONTROLLER_PORT=controller)
            with running(KafkaServer(config)):
                yield from _with_topics(config)


def _with_topics(config: Config) -> Iterator[Config]:
    ensure_topics(config)
    try:
        yield config
    finally:
        delete_topics(config, lambda name: name.startswith(config.kafka.topic_prefix))


def delete_topics(config: Config, chosen: Callable[[str], bool]) -> None:
    """Deletes the topics whose name is `chosen`; returns when the broker does not name them any more."""
    client = admin(config)
    names = {name for name in client.list_topics(timeout=10).topics if chosen(name)}
    for future in (client.delete_topics(sorted(names)) if names else {}).values():
        future.result()
    wait_until(lambda: not names & client.list_topics(timeout=10).topics.keys(), "topics are deleted")


def forget(config: Config, job: str = "links") -> None:
    """The job's results and offsets are gone, and what its view holds: the next worker counts from the beginning."""
    client, group, made = admin(config), config.topic(job), make(job, config)

    def deleted() -> bool:
        try:
            for future in client.delete_consumer_groups([group]).values():
                future.result()
            return True
        except KafkaException as e:
            if e.args[0].name() == "GROUP_ID_NOT_FOUND":
                return True
            if e.args[0].name() == "NON_EMPTY_GROUP":  # a killed worker is a member until its session is over
                return False
            raise

    wait_until(deleted, "the group is empty")
    viewed = [made.view.topic] if made.view is not None else []
    gone = {config.topic(topic.name) for topic in [*made.writes, *viewed]}
    delete_topics(config, gone.__contains__)
    ensure_topics(config)


def wait_until(there: Callable[[], bool], what: str, every_s: float = 0.02) -> None:
    """Returns once `there` says yes. Raises SystemExit after `PATIENCE_S` seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_S:.0f} s until {what}")
        time.sleep(every_s)


def ids(count: int, seed: int = 7) -> list[str]:
    """So many UUIDs, the same each time."""
    rng = random.Random(seed)
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]


def pairs_among(children: Sequence[str], draws: int) -> list[tuple[str, str]]:
    """The distinct pairs of so many draws, in random order: 50 000 draws among 1 000 children give about 48 770."""
    rng = random.Random(8)
    space = len(children) ** 2
    drawn = rng.sample(range(space), space) if draws >= space else {rng.randrange(space): 0 for _ in range(draws)}
    return [(children[n // len(children)], children[n % len(children)]) for n in drawn]


def call(source: str, destination: str) -> bytes:
    """A communication of about 150 bytes."""
    return b'{"source":"%b","destination":"%b","method":"GET","path":"/list","httpStatus":200}' % (
        source.encode(),
        destination.encode(),
    )


def relate(config: Config, parents: Mapping[str, str]) -> None:
    """Writes a relation for every child."""
    out = producer(config, **{"linger.ms": 20})
    for child, parent in parents.items():
        value = msgspec.json.encode({"parent": parent, "child": child})
        out.produce(config.topic("relations"), value, key=child, timestamp=int(time.time() * 1000) - 3_600_000)
    out.flush()


def fill(config: Config, events: Iterable[tuple[int, bytes]], topic: str = "communications") -> int:
    """Writes events, (epoch ms, value) each, in this order, spread over all partitions. Gives their number."""
    out = bulk_producer(config)
    messages = iter(events)
    written = 0
    while batch := list(itertools.islice(messages, 2_000)):
        produce(out, config.topic(topic), batch, written // 2_000 % config.kafka.partitions)
        written += len(batch)
    if out.flush(PATIENCE_S):
        raise SystemExit("not everything was acknowledged")
    return written


def bulk_producer(config: Config, **settings: Any) -> Producer:
    """A producer that holds a million messages."""
    bulk = {
        "linger.ms": 20,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1 << 20,
    } | settings
    return producer(config, **bulk)


def produce(out: Producer, topic: str, batch: Sequence[tuple[int, bytes]], partition: int) -> None:
    """Hands over (timestamp in epoch ms, value) each; waits for room where there is none."""
    while len(out) > 500_000:
        out.poll(0.01)
    for at, value in batch:
        out.produce(topic, value, partition=partition, timestamp=at)
    out.poll(0)


def spread(values: Sequence[bytes], events: int, windows: int = 1) -> Iterator[tuple[int, bytes]]:
    """`events` of these values at random, evenly over so many windows of a minute that have just passed."""
    rng = random.Random(9)
    start = int(time.time() * 1000) // MINUTE * MINUTE - (windows + 1) * MINUTE
    for n, value in enumerate(rng.choices(values, k=events)):
        yield start + n * windows * MINUTE // events, value


class Fleet:
    """Workers of a job, each a process with its log; `module` is run as the command line."""

    def __init__(self, config: Config, job: str = "links", module: str = "weir.cli.main", **settings: str) -> None:
        self._config, self._job, self._module = config, job, module
        self._environ = os.environ | {
            "WEIR_KAFKA": config.kafka.bootstrap,
            "WEIR_HOME": str(config.home),
            "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
            "WEIR_PARTITIONS": str(config.kafka.partitions),
            "WEIR_LOG_FORMAT": "json",
        } | settings  # fmt: skip
        self.processes: list[psutil.Popen] = []
        self._logs: list[Path] = []

    def start(self, count: int = 1) -> None:
        """Starts so many more."""
        for _ in range(count):
            log = self._config.home / f"worker-{len(self._logs)}.log"
            self._config.home.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as out:
                command = [sys.executable, "-m", self._module, "worker", self._job]
                self.processes.append(psutil.Popen(command, env=self._environ, stdout=subprocess.DEVNULL, stderr=out))
            self._logs.append(log)

    def said(self, event: str, worker: int = -1) -> list[dict[str, Any]]:
        """The lines of that event in a worker's log, oldest first."""
        lines = self._logs[worker].read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and f'"{event}"' in line]

    def check(self) -> None:
        """Raises SystemExit, with the end of its log, where a worker has ended."""
        for process, log in zip(self.processes, self._logs, strict=True):
            if process.poll() is not None:
                raise SystemExit(f"a worker ended with code {process.returncode}:\n{log.read_text()[-3000:]}")

    def wait_assigned(self) -> None:
        """Returns once every worker has tasks, and all together have all."""
        tasks = make(self._job, self._config).tasks
        wanted = sum(task.topic.partitions or self._config.kafka.partitions for task in tasks)

        def there() -> bool:
            self.check()
            said = [self.said("tasks.assigned", n)[-1:] for n in range(len(self._logs))]
            own = [len(line["partitions"]) for lines in said for line in lines]
            return len(own) == len(said) and min(own) > 0 and sum(own) == wanted

        wait_until(there, "every partition is assigned", 0.01)

    def cpu_s(self) -> float:
        """CPU seconds that the workers have used."""
        return sum(cpu_s(process) for process in self.processes)

    def rss_mb(self) -> float:
        """The memory of the largest worker."""
        return max(process.memory_info().rss for process in self.processes) / 2**20

    def stop(self) -> None:
        """Ends them as a supervisor does."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(20)


@contextmanager
def fleet(config: Config, count: int = 1, job: str = "links", **settings: str) -> Iterator[Fleet]:
    """Workers that have all partitions, for as long as the block runs. `settings`: variables of their environment, and
    what `Fleet` takes.
    """
    workers = Fleet(config, job, **settings)
    try:
        workers.start(count)
        workers.wait_assigned()
        yield workers
    finally:
        workers.stop()


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def broker(config: Config) -> psutil.Process | None:
    """The broker's process, where it runs on this machine and is ours to look at."""
    port = int(config.kafka.bootstrap.rpartition(":")[2])
    for process in psutil.process_iter():
        try:
            if process.name().startswith("java") and any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")
            ):
                return process
        except psutil.Error:
            continue
    return None


def merged(config: Config, job: str = "links") -> Callable[[], int]:
    """Asks how many events are in the results that are committed."""
    ledger = LedgerReader(config, make(job, config))
    return lambda: ledger.read().merged


def wait_merged(asked: Callable[[], int], wanted: int, each: Callable[[], None] = lambda: None) -> int:
    """Returns once so many events are in the results; asks seldom until it is near, to take no time from the broker."""
    before, deadline = -1, time.monotonic() + PATIENCE_S
    while (now := asked()) < wanted:
        each()
        if now > before:
            before, deadline = now, time.monotonic() + PATIENCE_S
        elif time.monotonic() > deadline:
            raise SystemExit(f"nothing was counted for {PATIENCE_S:.0f} s, {now} of {wanted} were")
        time.sleep(0.02 if now > 0.8 * wanted else 0.1)
    return now


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and max, as the value that this share does not exceed."""
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) for name, share in shares.items()}
