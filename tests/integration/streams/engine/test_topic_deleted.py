"""A topic is deleted under a worker: it may come back, so it is waited for; one that stays away is told by its name."""

from __future__ import annotations

import pytest

from support.command import started
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.client import ensure_topics
from weir.infra.runtime.status import ServiceStatus, read_one
from weir.schemas.topics import MONITORING_EVENTS


def said(config: Config) -> ServiceStatus:
    return read_one(config, "w") or ServiceStatus("w", "unheard", 0, 0)


@pytest.mark.long
def test_a_topic_that_stays_away_is_waited_for_and_then_told(config: Config, environ: dict[str, str]) -> None:
    ensure_topics(config)
    client = kafka.admin(config)  # by name: without it there is nobody to hear the answer
    name = config.topic(MONITORING_EVENTS.name)
    with started(environ, "worker", "monitoring-ids", "--name", "w") as worker:
        until(lambda: said(config).state == "running")
        for future in client.delete_topics([name]).values():
            future.result()
        until(lambda: said(config).state == "waiting" and name in str(said(config).detail.get("error")))
        assert worker.process.poll() is None
        assert worker.end() == 1
        last = next(line.decode() for line in worker.err if b"worker.failed" in line)
    assert f"does not have {name}" in last
    assert "weir topics --create" in last
