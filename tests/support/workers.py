"""`weir worker` processes of a test's own, to be killed, paused and started again; and what they have counted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from support.processes import start
from weir.infra.config import Config
from weir.schemas.links import LinkCount
from weir.schemas.times import to_rfc3339
from weir.schemas.windows import WindowClosed
from weir.streams.engine.aggregates import partials
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.records import Record
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.jobs import links

Cell = tuple[str, str, str]

WEIR = ("-m", "weir")


class Workers:
    """Processes of `weir worker`, each with a log file of its own. `weir` is what Python runs as that command."""

    def __init__(
        self, environ: dict[str, str], logs: Path, weir: Sequence[str] = WEIR, jobs: Sequence[str] = ("links",)
    ) -> None:
        self._environ, self._logs, self._weir, self._jobs = environ, logs, weir, jobs
        self.running: list[subprocess.Popen[bytes]] = []
        self.jobs: dict[subprocess.Popen[bytes], str] = {}
        self.log_of: dict[subprocess.Popen[bytes], Path] = {}
        self._started = 0

    def start(self, *options: str, job: str | None = None) -> subprocess.Popen[bytes]:
        """One worker; of the first job where none is named."""
        job = job or self._jobs[0]
        self._started += 1
        log = self._logs / f"worker-{self._started}.log"
        with log.open("wb") as out:
            arguments = ["worker", job, *options]
            if self._weir == WEIR:
                process = start(self._environ, arguments, stdout=out, stderr=out)
            else:
                command = [sys.executable, *self._weir, *arguments]
                process = subprocess.Popen(command, env=self._environ, stdout=out, stderr=out)
        self.running.append(process)
        self.jobs[process], self.log_of[process] = job, log
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, as the kernel does when memory is out."""
        process.kill()
        process.wait()
        self.running.remove(process)

    def revive(self, wanted: int, but: str | None = None) -> None:
        """Starts as many of each job, `but` one, as are missing: what a supervisor does with those that ended
        themselves.
        """
        self.running = [process for process in self.running if process.poll() is None]
        for job in self._jobs if but is None else [job for job in self._jobs if job != but]:
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
    """The results of the links job so far, read from the broker."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._group = Group(config, "links")
        self._ledger = LedgerReader(config, links.job(config))

    @property
    def routed(self) -> Routed:
        read = self._ledger.read()
        return Routed(read.counted, read.late, read.dead)

    @property
    def merged(self) -> int:
        return self._ledger.read().merged

    def positions(self, topic: str) -> list[int]:
        """Up to where each partition is processed; 0 where nothing of it is."""
        settled = [self._group.settled(topic, p) for p in range(self._group.partitions(topic))]
        return [0 if one is None else one.offset for one in settled]

    def on_the_way(self) -> Counter[Cell]:
        """Returns the counts that stage one has sent and stage two has not merged yet."""
        found: Counter[Cell] = Counter()
        for partition, at in enumerate(self.positions("links-partials")):
            end = self._group.ends("links-partials", partition)[1]
            for record in read_to(self._config, "links-partials", partition, at, end):
                for begin, keys, counts in partials.decode(record.value() or b"").cells:
                    for (source, destination), count in zip(keys, counts, strict=True):
                        found[to_rfc3339(begin), source, destination] += count
        return found

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
