"""The links job kept in RocksDB, on a real Kafka: exact whatever ends its workers, and taken up where it was left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.links import rocks_links
from support.links.communications import Source
from support.wait import PATIENCE_S, until
from support.workers import Results, Workers, workers
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.streams.engine.core.crash_points import CRASHED

WEIR = (rocks_links.__file__,)


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=8)


def log_of(logs: Path, number: int) -> str:
    return (logs / f"worker-{number}.log").read_text()


def stop(fleet: Workers) -> None:
    (worker,) = fleet.running
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0, fleet.logs()
    fleet.running.clear()


@pytest.mark.long
def test_killed_and_started_again_it_is_exact_and_a_restart_in_order_reads_nothing_back(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as fleet:
        for _ in range(3):
            worker = fleet.start()
            source.send(1_000)
            until(lambda: results.merged >= source.sent - 500)
            source.send(1_000)
            fleet.kill(worker)
        fleet.start()
        until(lambda: results.merged >= source.sent)
        assert results.counts() == source.expected, fleet.logs()
        stop(fleet)
        fleet.start()
        source.send(1_000)
        until(lambda: results.merged >= source.sent)
    assert results.counts() == source.expected, fleet.logs()
    assert results.routed.accepted == source.sent
    last = log_of(tmp_path, 5)
    assert last.count("state.kept") == config.kafka.partitions, last
    assert "task.restored" not in last


def test_what_rocksdb_was_not_told_of_is_read_back(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    """The worker ends after Kafka's commit and before RocksDB's write, so one partition's metadata is an older one."""
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as fleet:
        victim = fleet.start("--crash-at", "after-commit:links-partials:12")
        until(lambda: victim.poll() is not None, lambda: source.send(100) if source.sent < 20_000 else None)
        assert victim.returncode == CRASHED, fleet.logs()
        fleet.running.clear()
        fleet.start()
        until(lambda: results.merged >= source.sent)
        until(lambda: log_of(tmp_path, 2).count("task.restored") >= 1)
    assert results.counts() == source.expected, fleet.logs()


@pytest.mark.long
def test_a_paused_worker_keeps_its_folder_and_the_next_one_has_another(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as fleet:
        paused = fleet.start()
        source.send(2_000)
        until(lambda: results.merged >= source.sent)
        paused.send_signal(signal.SIGSTOP)
        fleet.start()
        source.send(2_000)
        until(lambda: results.merged >= source.sent)
        assert log_of(tmp_path, 2).count("state.held") == config.kafka.partitions
        paused.send_signal(signal.SIGCONT)
        source.send(2_000)
        until(lambda: results.merged >= source.sent, lambda: fleet.revive(2))
    assert results.counts() == source.expected, fleet.logs()
    assert results.routed.accepted == source.sent
