"""The broker is killed under running services: they live on, say what they wait for, and can be stopped meanwhile."""

from __future__ import annotations

import signal

import pytest

from support.command import Running, started
from support.servers.own_servers import OwnServer
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.infra.runtime.status import ServiceStatus, read_one


def environment(environ: dict[str, str], config: Config) -> dict[str, str]:
    """With the Kafka that `config` names, as one that exists."""
    return environ | {"WEIR_KAFKA": config.kafka.bootstrap}


def said(config: Config, name: str) -> ServiceStatus:
    return read_one(config, name) or ServiceStatus(name, "unheard", 0, 0)


def waits(config: Config, name: str) -> bool:
    """Whether a service says that it waits for Kafka, and where that should be."""
    status = said(config, name)
    return status.state == "waiting" and config.kafka.bootstrap in str(status.detail.get("error"))


def end(running: Running, event: bytes) -> list[bytes]:
    """Ends a service with Ctrl-C; returns its error output from then on: stopping at once, stopped in order."""
    before = len(running.err)
    running.process.send_signal(signal.SIGINT)
    running.wait_for_error_line(event + b".stopping")
    assert running.end() == 0, running.err
    assert any(event + b".stopped" in line for line in running.err[before:]), running.err[before:]
    return running.err[before:]


@pytest.mark.timeout(400)  # two starts of a broker
def test_services_live_through_a_kill_of_the_broker_and_say_what_they_wait_for(
    environ: dict[str, str], kafka_of_its_own: tuple[Config, OwnServer]
) -> None:
    config, broker = kafka_of_its_own
    ensure_topics(config)
    own = environment(environ, config)
    config = config.replace(WEIR_KAFKA=config.kafka.bootstrap)
    names = ("worker-a", "worker-b", "monitoring")
    with (
        started(own, "worker", "links", "--name", "worker-a") as a,
        started(own, "worker", "monitoring-ids", "--name", "worker-b") as b,
        started(own, "run", "monitoring") as monitoring,
    ):
        until(lambda: all(said(config, name).state == "running" for name in names))
        pids = {name: said(config, name).pid for name in names}
        broker.kill()
        until(lambda: all(waits(config, name) for name in names))
        # At once: a commit that the kill left without an answer ends its worker after 20 s, for another start.
        lines = end(a, b"worker")
        with started(own, "worker", "links", "--name", "worker-late") as late:
            until(lambda: waits(config, "worker-late"))
            end(late, b"worker")
        assert not any(b"Traceback" in line or b"Exception" in line for line in a.err + late.err), (lines, late.err)
        broker.start()

        def live() -> None:
            for running in (b, monitoring):
                assert running.process.poll() is None, running.err

        until(lambda: all(said(config, name).state == "running" for name in ("worker-b", "monitoring")), live)
        assert [said(config, name).pid for name in ("worker-b", "monitoring")] == [pids["worker-b"], pids["monitoring"]]
        for running, event in ((b, b"worker"), (monitoring, b"monitoring")):
            end(running, event)
            assert not any(b"Traceback" in line or b"Unknown partition" in line for line in running.err), running.err
        assert sum(b"kafka.away" in line for line in b.err) == 1, b.err
