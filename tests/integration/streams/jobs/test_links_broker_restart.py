"""The broker is killed under the workers: nothing is lost or counted twice, and counting goes on by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.links.communications import Source
from support.wait import until
from support.workers import Results, workers
from weir.infra import config as configuration
from weir.infra.kafka.client import ensure_topics
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.infra.supervisor.processes import end


@pytest.mark.long
def test_a_broker_that_is_killed_and_comes_back_costs_no_count(tmp_path: Path, environ: dict[str, str]) -> None:
    port, controller = free_ports(2)
    own = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"} | {
        "WEIR_KAFKA_PORT": str(port),
        "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
    }
    config = configuration.load(own)
    server = KafkaServer(config)
    server.prepare()
    broker = server.spawn()
    try:
        server.wait_ready(broker)
        ensure_topics(config)
        source, results = Source(config, seed=5), Results(config)
        source.send(5_000)
        with workers(own, tmp_path) as fleet:
            fleet.start()
            until(lambda: results.merged > 0)
            broker.send_signal(signal.SIGKILL)
            broker.wait()
            broker = server.spawn()
            server.wait_ready(broker)
            source.send(5_000)
            until(lambda: results.merged >= source.sent, lambda: fleet.revive(1))
            assert results.counts() == source.expected, fleet.logs()
    finally:
        end({broker: server.stop_signal}, seconds=5)
