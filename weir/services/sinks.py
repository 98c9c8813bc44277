"""The sinks as services: `weir run NAME` for each that the registry of consumers has."""

from __future__ import annotations

import asyncio
import threading

from weir.consumers.registry import SINKS
from weir.consumers.sinks.sink import Sink
from weir.infra.config import Config
from weir.infra.runtime.interpreter import for_many_records
from weir.infra.runtime.threads import in_daemon

#: Seconds that a sink has to end in order; what it has not stored by then it stores when it runs again.
_GRACE_S = 3.0


async def store(sink: Sink) -> None:
    """Runs a sink in a thread of its own, and has it stop where this is cancelled."""
    for_many_records()
    stop = threading.Event()
    work = asyncio.ensure_future(in_daemon(lambda: sink.run(stop)))
    try:
        await asyncio.shield(work)
    finally:
        stop.set()
        await asyncio.wait([work], timeout=_GRACE_S)


def sink(name: str, config: Config) -> Sink:
    """Returns the sink of that name. Raises ConfigError where there is none."""
    return Sink(config, name, SINKS.get(name)(config))
