"""A worker that may not go on says why in one line and in `weir status`, and is not started again at once."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence

from confluent_kafka import TopicPartition

from support.command import weir
from weir.infra.config import Config
from weir.infra.kafka.client import consumer, ensure_topics
from weir.infra.ports import Port
from weir.infra.runtime.status import REFUSED, read_one
from weir.infra.supervisor.child import ChildSupervisor
from weir.infra.supervisor.processes import Process, spawn
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import Known, write_envelope, write_metadata
from weir.streams.engine.progress.layout import Layout
from weir.streams.engine.progress.offsets import Group
from weir.streams.jobs import links

WHY = "topic communications has 4 partitions, but had 3 when job links committed its state"
SAYS = """
import os, sys
from weir.infra.config import load
from weir.infra.runtime.status import StatusFile
StatusFile(load(os.environ), "worker-links").set("refused", error="it is not what it was")
sys.exit(1)
"""


class Refuses:
    """A service that says at once that it may not go on."""

    name, stop_signal, writes_own_status, address = "worker-links", signal.SIGTERM, True, None
    ports: Sequence[Port] = ()

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def check(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def spawn(self) -> Process:
        return spawn([sys.executable, "-c", SAYS], env=self._environ)

    def wait_ready(self, process: Process) -> None:
        process.wait()


def committed_with_three_partitions(config: Config) -> None:
    """As a worker did whose source had a partition less."""
    ensure_topics(config)
    job = links.job(config)
    source, *others = Layout(job, Group(config, job.name).describe(Layout.names(job))).known
    envelope = write_envelope(write_metadata(Routed()), [Known(source.id, 3), *others], None)
    client = consumer(config, job.name)
    client.commit(offsets=[TopicPartition(config.topic("relations"), 0, 0, envelope)], asynchronous=False)
    client.close()


def test_a_worker_that_refuses_says_so_in_one_line_and_in_its_status(config: Config, environ: dict[str, str]) -> None:
    committed_with_three_partitions(config)
    ended = weir(environ, "worker", "links", "--name", "worker-links")
    assert ended.returncode == 1
    [line] = [line for line in ended.stderr.decode().splitlines() if "error" in line]
    assert WHY in line
    assert "`weir reset links`" in line
    assert b"Traceback" not in ended.stderr
    shown = json.loads(weir(environ, "status", "--json").stdout)["services"]["worker-links"]
    assert (shown["state"], shown["pid"]) == (REFUSED, None)
    assert WHY in shown["detail"]["error"]


def test_one_that_refused_is_not_started_again_at_once_and_its_reason_stays(
    config: Config, environ: dict[str, str]
) -> None:
    async def run() -> None:
        died = asyncio.Event()
        supervisor = ChildSupervisor(config, Refuses(environ), died.set)
        await supervisor.start(fatal=False)
        await asyncio.wait_for(died.wait(), 30)
        await supervisor.stop()
        assert supervisor.policy.deaths == 1

    asyncio.run(run())
    said = read_one(config, "worker-links")
    assert said is not None
    assert said.state == REFUSED
    assert said.detail == {
        "exit_code": 1, "restarts": 1, "retry_in_s": 60.0, "error": "it is not what it was",
    }  # fmt: skip
    assert said.started <= time.time()
