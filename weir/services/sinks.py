"""The sinks as services: `weir run NAME` for each that the registry of consumers has."""

from __future__ import annotations

from weir.consumers.registry import SINKS
from weir.consumers.sinks.sink import Sink
from weir.infra.config import Config
from weir.infra.runtime.interpreter import for_many_records
from weir.infra.runtime.lifecycle import ServiceLifecycle
from weir.infra.websocket.service import ProbeEndpoint


async def store(config: Config, name: str) -> None:
    """Runs the sink of that name until cancelled. Raises ConfigError where there is none."""
    for_many_records()
    sink = Sink(config, name, SINKS.get(name)(config))
    lifecycle = ServiceLifecycle(config, name, facts=sink.facts)
    await lifecycle.run(sink, ProbeEndpoint(config, lifecycle))
