"""Faust's own command line runs the jobs: a worker of it counts exactly, beside one of weir's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.http.table_client import address_of, ask, counts
from support.links.communications import Source
from support.wait import PATIENCE_S, until
from support.workers import Results, workers
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics


def faust(*arguments: str, app: str = "links") -> list[str]:
    return [sys.executable, "-m", "faust", "-A", f"weir.streams.faust_apps:{app}", *arguments]


@pytest.mark.parametrize(
    ("app", "agents"),
    [
        ("links", ["links.communications", "links.links-partials", "links.relations"]),
        ("monitoring_ids", ["monitoring-ids.monitoring-events", "monitoring-ids.monitoring-by-id"]),
    ],
)
def test_the_agents_are_listed(app: str, agents: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(faust("agents", app=app), env=environ, capture_output=True, timeout=PATIENCE_S, check=True)
    for agent in agents:
        assert agent in done.stdout.decode()


@pytest.mark.parametrize("beside", [0, 1])
def test_a_worker_of_it_counts_exactly(beside: int, config: Config, environ: dict[str, str], tmp_path: Path) -> None:
    ensure_topics(config)
    source, results = Source(config, seed=4), Results(config)
    with (tmp_path / "faust.log").open("wb") as log, workers(environ, tmp_path) as fleet:
        process = subprocess.Popen(faust("worker", "-l", "info"), env=environ, stdout=log, stderr=log)
        fleet.running.append(process)
        for _ in range(beside):
            fleet.start()
        source.send(3000)
        until(lambda: results.merged >= source.sent)
        assert results.counts() == source.expected
        pair = next(iter(source.expected))[1:]
        address = until(lambda: address_of(config, process))
        until(lambda: ask(address, *pair).status == 200)  # 503 while a partition is on its way
        assert counts(ask(address, *pair))
        fleet.running.remove(process)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    text = (tmp_path / "faust.log").read_text()
    assert "tasks.assigned" in text
    assert "Warning" not in text
