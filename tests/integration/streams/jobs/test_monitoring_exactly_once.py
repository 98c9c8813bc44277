"""The monitoring jobs on a real Kafka, their workers killed: each id counts once, sums and series equal the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import plan as plans
from chaos.cases import Monitoring
from chaos.play import stage
from support.monitoring.monitored import JOBS, Results, Source
from support.wait import until
from support.workers import workers
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics

SEED = 6


def test_events_count_once_though_they_come_again_and_workers_are_killed(
    config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(config)
    source, results = Source(config, SEED), Results(config)
    with workers(environ, tmp_path, jobs=JOBS) as fleet:
        fleet.revive(2)
        source.send(1_000)
        until(lambda: results.ledger("monitoring").merged > 0, lambda: fleet.revive(2))
        source.send(4_000)
        before = results.ledger("monitoring-ids").merged
        until(lambda: results.ledger("monitoring-ids").merged > before)
        for job in JOBS:  # while they work on the rest
            fleet.kill(fleet.of(job)[0])
        source.send(3_000)
        source.finish()
        until(lambda: results.done(source), lambda: fleet.revive(2))
    results.check(source)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 6])
def test_faults_of_each_kind_cost_no_event_and_count_none_twice(seed: int, tmp_path: Path) -> None:
    plan = plans.make(seed, plans.SHORT, events=20_000, broker_pause=5.0, waits=(0.5, 1.5))
    print(f"seed {seed}: {[fault.kind.name for fault in plan.faults]}")
    with stage(plan, tmp_path, Monitoring) as run:
        run.play()
