"""`weir worker` processes of a test's own, to be killed, paused and started again; and what they have counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.config import Config
from schemas.links import LinkCount, WindowClosed
from streams import links
from streams.engine.books import Books
from streams.engine.ledger import Routed
from streams.engine.offsets import Group, read_to
from streams.engine.records import Record

Cell = tuple[str, str, str]

WEIR = ("-m", "infra.cli.main")


class Workers:
    """Processes of `weir worker`, each with a log file of its own. `weir` is what Python runs as that command."""

    def __init__(
        self, environ: dict[str, str], logs: Path, weir: Sequence[str] = WEIR, jobs: Sequence[str] = ("links",)
    ) -> None:
        self._environ, self._logs, self._weir, self._jobs = environ, logs, weir, jobs
        self.running: list[subprocess.Popen[bytes]] = []
        self.jobs: dict[subprocess.Popen[bytes], str] = {}
        self._started = 0

    def start(self, *options: str, job: str | None = None) -> subprocess.Popen[bytes]:
        """One worker; of the first job where none is named."""
        job = job or self._jobs[0]
        self._started += 1
        log = self._logs / f"worker-{self._started}.log"
        with log.open("wb") as out:
            command = [sys.executable, *self._weir, "worker", job, *options]
            process = subprocess.Popen(command, env=self._environ, stdout=out, stderr=out)
        self.running.append(process)
        self.jobs[process] = job
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, as the kernel does when memory is out."""
        process.kill()
        process.wait()
        self.running.remove(process)

    def revive(self, wanted: int) -> None:
        """Starts as many of each job as are missing: what a supervisor does with those that ended themselves."""
        self.running = [process for process in self.running if process.poll() is None]
        for job in self._jobs:
            for _ in range(wanted - len(self.of(job))):
                self.start(job=job)

    def of(self, job: str) -> list[subprocess.Popen[bytes]]:
        """Those of a job that are running, as far as is known."""
        return [process for process in self.running if self.jobs.get(process) == job]

    def stop(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self._logs.glob("worker-*.log")))


@contextmanager
def workers(
    environ: dict[str, str], logs: Path, weir: Sequence[str] = WEIR, jobs: Sequence[str] = ("links",)
) -> Iterator[Workers]:
    """Workers that are ended with the test."""
    made = Workers(environ, logs, weir, jobs)
    try:
        yield made
    finally:
        made.stop()


class Results:
    """What the links job has written so far, read from the broker."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._group = Group(config, "links")
        self._books = Books(config, links.job(config))

    @property
    def routed(self) -> Routed:
        read = self._books.read()
        return Routed(read.counted, read.late, read.dead)

    @property
    def merged(self) -> int:
        return self._books.read().merged

    def records(self, topic: str) -> list[Record]:
        found = []
        for partition in range(self._group.partitions(topic)):
            found += read_to(self._config, topic, partition, *self._group.ends(topic, partition))
        return found

    def all(self) -> list[LinkCount]:
        return [msgspec.json.decode(r.value() or b"", type=LinkCount) for r in self.records("link-counts")]

    def latest(self) -> dict[Cell, LinkCount]:
        return {(c.window.start, c.source, c.destination): c for c in self.all()}

    def counts(self) -> Counter[Cell]:
        return Counter({cell: count.count for cell, count in self.latest().items()})

    def closed(self) -> list[WindowClosed]:
        return [msgspec.json.decode(r.value() or b"", type=WindowClosed) for r in self.records("link-windows")]


def wait_until(done: Callable[[], bool], seconds: float, tick: Callable[[], None] = lambda: None) -> None:
    """Asks until `done`, or fails after `seconds`; `tick` runs between two questions."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not done within {seconds} s"
        tick()
        os.sched_yield()
        time.sleep(0.05)
