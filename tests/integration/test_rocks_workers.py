"""The links job kept in RocksDB, on a real Kafka: exact whatever ends its workers, and taken up where it was left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import rocks_links
from communications import Source
from infra.config import Config
from infra.kafka import ensure_topics
from streams.engine.crash_points import CRASHED
from workers import Results, Workers, wait_until, workers

WEIR = (rocks_links.__file__,)


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=8)


def log_of(logs: Path, number: int) -> str:
    return (logs / f"worker-{number}.log").read_text()


def stop(crew: Workers) -> None:
    (worker,) = crew.running
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0, crew.logs()
    crew.running.clear()


@pytest.mark.long
def test_killed_and_started_again_it_is_exact_and_a_restart_in_order_reads_nothing_back(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as crew:
        for _ in range(3):
            worker = crew.start()
            source.send(1_000)
            wait_until(lambda: results.merged >= source.sent - 500, 60)
            source.send(1_000)
            crew.kill(worker)
        crew.start()
        wait_until(lambda: results.merged >= source.sent, 60)
        assert results.counts() == source.expected, crew.logs()
        stop(crew)
        crew.start()
        source.send(1_000)
        wait_until(lambda: results.merged >= source.sent, 60)
    assert results.counts() == source.expected, crew.logs()
    assert results.routed.accepted == source.sent
    last = log_of(tmp_path, 5)
    assert last.count("state.kept") == config.partitions, last
    assert "task.restored" not in last


def test_what_rocksdb_was_not_told_of_is_read_back(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    """It ends after Kafka's commit and before RocksDB's write: one partition's metadata is not the committed one."""
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as crew:
        victim = crew.start("--crash-at", "after-commit:links-partials:12")
        wait_until(lambda: victim.poll() is not None, 60, lambda: source.send(100) if source.sent < 20_000 else None)
        assert victim.returncode == CRASHED, crew.logs()
        crew.running.clear()
        crew.start()
        wait_until(lambda: results.merged >= source.sent, 60)
        wait_until(lambda: log_of(tmp_path, 2).count("task.restored") >= 1, 60)
    assert results.counts() == source.expected, crew.logs()


@pytest.mark.long
def test_a_paused_worker_keeps_its_folder_and_the_next_one_has_another(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path, WEIR) as crew:
        paused = crew.start()
        source.send(2_000)
        wait_until(lambda: results.merged >= source.sent, 60)
        paused.send_signal(signal.SIGSTOP)
        crew.start()
        source.send(2_000)
        wait_until(lambda: results.merged >= source.sent, 60)
        assert log_of(tmp_path, 2).count("state.held") == config.partitions
        paused.send_signal(signal.SIGCONT)
        source.send(2_000)
        wait_until(lambda: results.merged >= source.sent, 60, lambda: crew.revive(2))
    assert results.counts() == source.expected, crew.logs()
    assert results.routed.accepted == source.sent
