"""`weir reset` of two jobs of which one reads what the other writes: in that order nothing counts twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from command import weir
from infra.config import Config
from infra.kafka import admin, ensure_topics
from infra.worker_directory import describe
from monitored import JOBS, Results, Source
from workers import Workers, wait_until, workers


def stop(crew: Workers, config: Config) -> None:
    """Ends all workers in order, and waits until their groups know it."""
    for worker in crew.running:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
    crew.running.clear()
    client = admin(config)
    wait_until(lambda: not any(describe(client, config.topic(job)) for job in JOBS), 30)


@pytest.mark.long
def test_who_counts_what_is_written_anew_is_reset_first_and_both_recount_exactly(
    config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(config)
    source, results = Source(config, seed=2), Results(config)
    with workers(environ, tmp_path, jobs=JOBS) as crew:
        crew.revive(1)
        source.send(1_000)
        source.finish()
        wait_until(lambda: results.done(source), 60)
        results.check(source)
        stop(crew, config)

        refused = weir(environ, "reset", "monitoring-ids", "--yes", "--yes")
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"`weir reset monitoring`, and then this" in refused.stderr
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
        crew.revive(1)
        wait_until(lambda: results.done(source), 60)
    results.check(source, before)
