"""How a service does, for those who run it: `GET /healthz`, `GET /readyz` and `GET /metrics`, whatever serves them; and
`GET /`, which says what else is there.

The first two are Kubernetes' liveness and readiness: who does not live is started again, who is not ready gets no
requests meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from weir.infra.prometheus import CONTENT_TYPE, Reading, exposition
from weir.infra.retry_after import RETRY_SOON
from weir.infra.version import VERSION

_JSON = {"Content-Type": "application/json; charset=utf-8"}


class Health(Protocol):
    """How a service does, as `weir.infra.runtime.lifecycle.ServiceLifecycle` says it."""

    @property
    def service(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """`running`, or why not."""

    @property
    def reason(self) -> str | None:
        """Says what the service waits for; None where it does not wait."""

    def metrics(self) -> Iterable[Reading]:
        """Its metrics, as they are now."""


class HealthAnswer(NamedTuple):
    """An answer to a probe: its status, body and headers."""

    status: int
    body: bytes
    headers: dict[str, str]


def live(_: Health) -> HealthAnswer:
    """Answers 200: a process that can answer lives."""
    return HealthAnswer(200, b'{"status":"ok"}', _JSON)


def ready(health: Health) -> HealthAnswer:
    """200 where the service runs; else 503, with its state and what it waits for."""
    if health.state == "running":
        return HealthAnswer(200, b'{"status":"ready"}', _JSON)
    body = {"status": health.state, "reason": health.reason}
    told = {name: value for name, value in body.items() if value is not None}
    return HealthAnswer(503, msgspec.json.encode(told), _JSON | RETRY_SOON)


def metrics(health: Health) -> HealthAnswer:
    """Answers with the metrics of the service and of its process."""
    return HealthAnswer(200, exposition(health.metrics()), {"Content-Type": CONTENT_TYPE})


def index(health: Health, paths: Iterable[str]) -> HealthAnswer:
    """Answers `GET /`: which service this is, and what it serves."""
    body = {
        "service": health.service,
        "version": VERSION,
        "paths": sorted((*paths, *(f"GET {path}" for path in PROBES))),
    }
    return HealthAnswer(200, msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n", _JSON)


#: What is answered, by path.
PROBES = {"/healthz": live, "/readyz": ready, "/metrics": metrics}
