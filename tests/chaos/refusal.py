"""How a run ends after which a job must not go on: each worker of the job says so, the other jobs go on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence

from chaos.cases import SETTLE_S
from support.wait import until
from support.workers import Workers
from weir.infra.config import Config
from weir.streams.engine.core.offset_metadata import Committed
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import registry as jobs

#: How long the workers of a job may take until all have ended. One that has no partition yet gets one once the group


def check_refused(config: Config, fleet: Workers, job: str, topic: str, wanted: int, tick: Callable[[], None]) -> None:
    """Waits until no worker of the job runs any more, and starts as many as are `wanted`, which have to refuse.

    `tick` starts no worker of the job.
    """
    _ended(fleet, fleet.of(job), tick)
    before = _committed(config, job)
    fresh = [fleet.start(job=job) for _ in range(wanted)]
    for said in _ended(fleet, fresh, tick):
        assert topic in said, said
        assert f"`weir reset {job}`" in said, said
    assert _committed(config, job) == before, "a worker that refuses commits nothing"


def _committed(config: Config, job: str) -> dict[str, dict[int, Committed]]:
    """Returns the offsets that the job has committed, and what stands with them."""
    group = Group(config, job)
    topics = [task.topic.name for task in jobs.make(job, config).tasks]
    return {topic: group.committed(topic, group.partitions(topic)) for topic in topics}


def _ended(fleet: Workers, processes: Sequence[subprocess.Popen[bytes]], tick: Callable[[], None]) -> list[str]:
    """Waits for the end of these workers; why each has ended, which each has said in one line.

    One that has no partition yet gets one once the group has found out that others are gone: that takes its time.
    """
    until(lambda: all(process.poll() is not None for process in processes), tick, SETTLE_S)
    return [_why(fleet, process) for process in processes]


def _why(fleet: Workers, process: subprocess.Popen[bytes]) -> str:
    lines = [json.loads(line) for line in fleet.log_of[process].read_text().splitlines() if line.startswith("{")]
    said = [str(line["error"]) for line in lines if line["event"] == "worker.failed"]
    assert process.returncode == 1, (process.returncode, said)
    assert len(said) == 1, (fleet.log_of[process].name, said)
    return said[0]


def go_on(config: Config, names: Sequence[str], tick: Callable[[], None]) -> None:
    """Waits until these jobs have processed all that there is for them."""
    for name in names:
        ledger = LedgerReader(config, jobs.make(name, config))
        until(lambda ledger=ledger: not any(ledger.read().behind.values()), tick, SETTLE_S)  # type: ignore[misc]
