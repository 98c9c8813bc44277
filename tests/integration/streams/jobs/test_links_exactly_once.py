"""The links job on a real Kafka: killed, paused, started again; the counts equal the truth."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from support.links.communications import Source
from support.wait import PATIENCE_S, until
from support.workers import Results, workers
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics, producer
from weir.schemas.dead_letters import from_headers
from weir.schemas.times import to_rfc3339


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=3)


def test_one_worker_counts_every_event_once(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    source.send(5_000)
    with workers(environ, tmp_path) as fleet:
        fleet.start()
        until(lambda: results.merged >= source.sent)
    assert results.counts() == source.expected
    assert (results.routed.counted, results.merged) == (source.sent, source.sent)


def test_workers_killed_paused_and_started_again_count_every_event_once(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        fleet.revive(2)
        for fault in ("kill", "pause", "kill", "kill"):
            source.send(2_000)
            until(lambda: results.merged >= source.sent // 2, lambda: fleet.revive(2))
            victim = fleet.running[0]
            if fault == "kill":
                source.send(1_000)
                fleet.kill(victim)
            else:
                source.send(1_000)
                victim.send_signal(signal.SIGSTOP)
                before = results.merged
                fleet.start()
                # The paused one is past its session once another has taken over and counts on.
                until(lambda before=before: results.merged > before or results.merged >= source.sent)
                victim.send_signal(signal.SIGCONT)
            fleet.revive(2)
        until(lambda: results.merged >= source.sent, lambda: fleet.revive(2))
    assert results.counts() == source.expected, fleet.logs()
    assert results.routed.accepted == source.sent


def test_bad_input_between_good_events_goes_to_the_dead_letters_once(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    bad = [b"nope", b"[]", b'{"source":1,"destination":"c1"}', b'{"source":"c1","destination":"nobody"}', b"[" * 10_000]
    out = producer(config)
    source.send(100)
    for value in bad:
        out.produce(config.topic("communications"), value)
    out.produce(config.topic("communications"), b'{"source":"c1","destination":"c1"}', timestamp=(1 << 42))
    out.produce(config.topic("relations"), b'{"parent":"p0"}')
    out.flush()
    source.send(100)
    with workers(environ, tmp_path) as fleet:
        fleet.start()
        until(lambda: results.merged >= source.sent and len(results.records("dead-letters")) >= 7)
    reasons = Counter(from_headers(r.headers()).reason for r in results.records("dead-letters"))
    assert reasons == {"not-json": 1, "empty": 1, "invalid": 2, "unknown-child": 1, "nesting": 1, "timestamp": 1}
    assert results.counts() == source.expected
    assert results.routed.accepted == source.sent + 6


def test_windows_of_a_topic_that_falls_silent_are_closed_by_every_partition(
    environ: dict[str, str], config: Config, source: Source, tmp_path: Path
) -> None:
    environ = environ | {"WEIR_LINKS_WINDOW": "2s", "WEIR_LINKS_GRACE": "500ms"}
    results = Results(config)
    out = producer(config)
    now = int(time.time() * 1000)
    out.produce(config.topic("communications"), b'{"source":"c1","destination":"c2"}', timestamp=now)
    out.flush()
    start = to_rfc3339(now // 2000 * 2000)
    with workers(environ, tmp_path) as fleet:
        fleet.start()
        until(lambda: sum(c.window.start == start for c in results.closed()) == config.kafka.partitions)
        later = to_rfc3339(now // 2000 * 2000 + 4000)
        until(lambda: sum(c.window.start == later for c in results.closed()) == config.kafka.partitions)
    closed = Counter((c.window.start, c.partition) for c in results.closed())
    assert set(closed.values()) == {1}
    assert sum(c.cells for c in results.closed() if c.window.start == start) == 1
    assert results.latest()[start, "p1", "p2"].final


@pytest.mark.parametrize(
    "when",
    [pytest.param("idle", marks=pytest.mark.long), "under load", pytest.param("starting", marks=pytest.mark.long)],
)
def test_sigterm_ends_a_worker_in_order(
    when: str, config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    source.send(20_000 if when == "under load" else 10)
    with workers(environ, tmp_path) as fleet:
        worker = fleet.start()
        if when == "idle":
            until(lambda: results.merged >= source.sent)
        elif when == "under load":
            until(lambda: results.merged > 0)
        else:
            until(lambda: "Starting" in fleet.logs() or "task.opened" in fleet.logs())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0, fleet.logs()
        fleet.running.clear()
        fleet.start()
        until(lambda: results.merged >= source.sent)
    assert results.counts() == source.expected
