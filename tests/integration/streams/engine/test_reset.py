"""`weir reset`: asked for twice, refused while a worker runs, completed when interrupted, and recounted exactly."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from integration.consumers.test_reporter import Feed, close, reporting
from support.command import started, weir
from support.engine import keyed_totals as totals
from support.http.table_client import address_of
from support.links.communications import Source
from support.links.link_records import Job, window
from support.links.link_store_client import LinkStoreClient, expected
from support.wait import PATIENCE_S, until
from support.workers import Results, Workers, workers
from weir.infra.config import Config
from weir.infra.kafka.client import admin, ensure_topics, producer
from weir.infra.kafka.worker_directory import describe
from weir.schemas.topics import DEAD_LETTERS, LINK_COUNTS, LINK_WINDOWS
from weir.streams.engine.admin.reset import Reset
from weir.streams.jobs import links

CERTAIN = ("reset", "links", "--yes", "--yes")


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=4)


def nobody_is_left(config: Config) -> None:
    until(lambda: not describe(admin(config), config, config.topic("links")))


def counted(fleet: Workers, results: Results, source: Source) -> None:
    until(lambda: results.merged >= source.sent, lambda: fleet.revive(1))


@pytest.mark.long
def test_it_is_asked_for_twice_and_what_follows_is_an_exact_recount_in_postgres_too(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results, probe = Results(config), LinkStoreClient(config)
    state = config.home / "state" / config.topic("links") / "links-partials-0"
    with workers(environ, tmp_path) as fleet, started(environ, "run", "link-store"):
        worker = fleet.start()
        source.send(2000)
        counted(fleet, results, source)
        before = results.latest()
        until(lambda: probe.rows() == expected(before.values()))
        address = (address_of(config, worker) or "").removeprefix("http://")
        refused = weir(environ, *CERTAIN)
        assert refused.returncode == 1
        assert address.encode() in refused.stderr
        fleet.kill(worker)
        assert weir(environ, *CERTAIN).returncode == 1  # for all that anybody knows it still runs
        nobody_is_left(config)

        for arguments, said in (("--yes",), b""), ((), b"n\n"), ((), b"y\nLinks\n"), ((), b"y\n"), ((), b""):
            assert weir(environ, "reset", "links", *arguments, stdin=said).returncode == 1
        assert results.latest() == before
        assert weir(environ, "reset", "nothing", "--yes", "--yes").returncode == 1

        state.mkdir(parents=True)
        done = weir(environ, "reset", "links", stdin=b"y\nlinks\n")
        assert (done.returncode, done.stderr) == (0, b"")
        for what in (b"link-counts", b"link-windows", b"links-partials", b"link_counts", str(state.parent).encode()):
            assert what in done.stdout
        assert b"dead letters" in done.stdout
        assert results.latest() == {}
        assert not state.parent.exists()
        assert weir(environ, *CERTAIN).returncode == 0
        until(lambda: probe.rows() == {})

        # A relation that was declared since: pairs that were counted before are none any more.
        client = producer(config)
        client.produce(config.topic("relations"), b'{"parent": "new", "child": "c0"}', key="c0", timestamp=1)
        client.produce(config.topic("relations"), b'{"parent": "new", "child": "c7"}', key="c7", timestamp=1)
        client.flush()
        fleet.start()
        source.send(500)
        counted(fleet, results, source)
        assert results.merged == results.routed.accepted == source.sent
        assert sum(results.counts().values()) == source.sent
        until(lambda: probe.rows() == expected(results.latest().values()))


@pytest.mark.parametrize("steps", [pytest.param(2, marks=pytest.mark.long), 3, pytest.param(4, marks=pytest.mark.long)])
def test_what_is_interrupted_keeps_workers_from_starting_and_is_completed(
    steps: int, config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    reset = Reset(config, links.job(config))
    with workers(environ, tmp_path) as fleet:
        worker = fleet.start()
        source.send(1000)
        counted(fleet, results, source)
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE_S)
        nobody_is_left(config)
        first = [
            reset.fence,
            reset.mark,
            *(lambda topic=topic: reset.delete_records(topic) for topic in links.job(config).writes),
        ]
        for step in first[:steps]:
            step()
        stopped = fleet.start()
        assert stopped.wait(PATIENCE_S) == 1
        assert "`weir reset links` completes it" in fleet.logs()
        ledger = weir(environ, "ledger")
        assert (ledger.returncode, ledger.stderr.count(b"weir reset links")) == (1, 1)
        nobody_is_left(config)
        done = weir(environ, *CERTAIN)
        assert done.returncode == 0, done.stderr
        source.send(1000)
        counted(fleet, results, source)
        assert results.counts() == source.expected


@pytest.mark.long
def test_a_worker_that_was_paused_through_it_adds_nothing(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        zombie = fleet.start()
        until(lambda: results.merged > 0, lambda: source.send(500))
        os.kill(zombie.pid, signal.SIGSTOP)
        source.send(1000)
        nobody_is_left(config)
        done = weir(environ, *CERTAIN)
        assert done.returncode == 0, done.stderr
        os.kill(zombie.pid, signal.SIGCONT)
        fleet.start()
        counted(fleet, results, source)
        assert results.counts() == source.expected


def test_a_topic_that_is_only_compacted_is_emptied_and_stays_so(config: Config) -> None:
    ensure_topics(config, [totals.PAYMENTS, totals.ROUTED, totals.ACCOUNTS, totals.RECEIPTS, DEAD_LETTERS])
    reset = Reset(config, totals.job("routed"))
    client = producer(config)
    for n in range(40):
        client.produce(config.topic("accounts"), b"x", key=str(n))
    client.flush()
    assert reset.records(totals.ACCOUNTS) == 40
    reset.delete_records(totals.ACCOUNTS)
    assert reset.records(totals.ACCOUNTS) == 0
    asked = admin(config)
    [settings] = asked.describe_configs([ConfigResource(ResourceType.TOPIC, config.topic("accounts"))]).values()
    assert settings.result()["cleanup.policy"].value == "compact"


def test_the_reporter_sends_recounted_windows_again_with_nothing_of_before(config: Config) -> None:
    job, reset = Job(config), Reset(config, links.job(config))

    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            sent = [close(job, 0, ab=1, cd=2), close(job, 1, ab=3)]
            await feed.gets(*sent)
        for topic in (LINK_COUNTS, LINK_WINDOWS):
            reset.delete_records(topic)
        async with reporting(config, feed):
            sent += [close(job, 0, ab=1, ef=2), close(job, 1, ab=4), close(job, 2, ab=5)]
            await feed.gets(*sent)
        assert feed.got[-1] == (window(2).start, {"ab": 5})

    asyncio.run(run())
