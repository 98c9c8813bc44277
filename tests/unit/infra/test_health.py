"""Probes: who lives, and who is ready."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from weir.infra import prometheus
from weir.infra.prometheus import Reading
from weir.infra.runtime.health import PROBES, index
from weir.infra.version import VERSION


class Said(NamedTuple):
    state: str
    reason: str | None = None
    service: str = "some"

    def metrics(self) -> list[Reading]:
        return [Reading(prometheus.READY, self.state == "running", ("some",))]


@pytest.mark.parametrize(
    ("health", "status", "body"),
    [
        (Said("running"), 200, b'{"status":"ready"}'),
        (Said("starting"), 503, b'{"status":"starting"}'),
        (Said("waiting", "Kafka does not answer"), 503, b'{"status":"waiting","reason":"Kafka does not answer"}'),
    ],
)
def test_ready_is_who_runs(health: Said, status: int, body: bytes) -> None:
    answer = PROBES["/readyz"](health)
    assert (answer.status, answer.body) == (status, body)
    assert ("Retry-After" in answer.headers) is (status == 503)
    assert PROBES["/healthz"](health).status == 200


def test_metrics_are_served_as_prometheus_wants_them() -> None:
    answer = PROBES["/metrics"](Said("running"))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'weir_service_ready{service="some"} 1.0' in answer.body


def test_the_index_says_who_this_is_and_what_is_there() -> None:
    answer = index(Said("starting"), ["GET /links", "GET /"])
    found = json.loads(answer.body)
    assert (answer.status, found["service"], found["version"]) == (200, "some", VERSION)
    assert found["paths"] == ["GET /", "GET /healthz", "GET /links", "GET /metrics", "GET /readyz"]
