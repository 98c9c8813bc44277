"""`weir reset` of two jobs of which one reads what the other writes: in that order nothing counts twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.command import weir
from support.monitoring.monitored import JOBS, Results, Source
from support.wait import PATIENCE_S, until
from support.workers import Workers, workers
from weir.infra.config import Config
from weir.infra.kafka.client import admin, ensure_topics
from weir.infra.kafka.worker_directory import describe


def stop(fleet: Workers, config: Config) -> None:
    """Ends all workers in order, and waits until their groups know it."""
    for worker in fleet.running:
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE_S)
    fleet.running.clear()
    client = admin(config)
    until(lambda: not any(describe(client, config, config.topic(job)) for job in JOBS))


@pytest.mark.long
def test_who_counts_what_is_written_anew_is_reset_first_and_both_recount_exactly(
    config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(config)
    source, results = Source(config, seed=2), Results(config)
    with workers(environ, tmp_path, jobs=JOBS) as fleet:
        fleet.revive(1)
        source.send(1_000)
        source.finish()
        until(lambda: results.done(source))
        results.check(source)
        stop(fleet, config)

        refused = weir(environ, "reset", "monitoring-ids", "--yes", "--yes")
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"`weir reset monitoring`, and then this command" in refused.stderr
        results.check(source)
        for job, topics in (
            ("monitoring", ("state", "totals", "series")),
            ("monitoring-ids", ("by-id", "ids", "unique")),
        ):
            done = weir(environ, "reset", job, "--yes", "--yes")
            assert (done.returncode, done.stderr) == (0, b"")
            for topic in topics:
                assert f"all of topic monitoring-{topic} (".encode() in done.stdout
                assert not results.records(f"monitoring-{topic}")
        before = len(results.records("dead-letters"))
        source.send(500)
        source.finish()
        fleet.revive(1)
        until(lambda: results.done(source))
    results.check(source, before)
