"""Whether a service lives, and whether it is ready: `GET /healthz` and `GET /readyz`, whatever serves them.

The two questions are Kubernetes' (liveness and readiness probes): who does not live is started again, who is not ready
gets no requests meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

#: Seconds after which who was told that the service is not ready may well ask again.
RETRY_AFTER_S = 1


class Health(Protocol):
    """How a service does, as `weir.infra.runtime.service.ServiceLifecycle` says it."""

    @property
    def state(self) -> str:
        """`running`, or why not."""

    @property
    def reason(self) -> str | None:
        """What it waits for; None where it does not wait."""


class HealthAnswer(NamedTuple):
    """An answer to a probe: status, JSON body, headers besides the type of the body."""

    status: int
    body: bytes
    headers: dict[str, str]


def live(_: Health) -> HealthAnswer:
    """Whoever can answer lives."""
    return HealthAnswer(200, b'{"status":"ok"}', {})


def ready(health: Health) -> HealthAnswer:
    """200 where the service runs; else 503, with its state and what it waits for."""
    if health.state == "running":
        return HealthAnswer(200, b'{"status":"ready"}', {})
    body = {"status": health.state, "reason": health.reason}
    told = {name: value for name, value in body.items() if value is not None}
    return HealthAnswer(503, msgspec.json.encode(told), {"Retry-After": str(RETRY_AFTER_S)})


#: The probes, by path.
PROBES = {"/healthz": live, "/readyz": ready}
