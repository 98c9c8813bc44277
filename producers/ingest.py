"""Events in over HTTP and WebSocket: each is checked, written to its topic, and answered once Kafka has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from infra.config import Config
from producers.clock import wall_clock
from producers.ingest_intake import METRICS, MONITORING, Intake

__all__ = ["METRICS", "MONITORING", "Ingest", "Intake"]


class Ingest:
    """The endpoints of one intake, for the aiohttp application that they are added to:

        ingest = Ingest(config, MONITORING, check=one_kind_per_key)
        app.add_routes(ingest.routes())
        …
        working = asyncio.create_task(ingest.work())  # opens as soon as Kafka answers; until then senders get 503
        …
        await ingest.close()                          # then runner.cleanup()

    `check` is called with every event that is otherwise fit, and raises ValueError("`field` …") where what is known
    now forbids it. `clock` gives epoch milliseconds. The application's own limit of a body's size does not matter.
    For one event loop.
    """

    def __init__(
        self,
        config: Config,
        intake: Intake,
        *,
        check: Callable[[Any], object] | None = None,
        clock: Callable[[], int] = wall_clock,
    ) -> None: ...

    def routes(self) -> list[web.RouteDef]:
        """POST, and the WebSocket where the intake has one."""
        raise NotImplementedError

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        raise NotImplementedError

    async def work(self) -> None:
        """Opens, however long Kafka is away, and runs until cancelled. Raises WeirError where nothing can be written
        any more: then the process is to end, and start again."""
        raise NotImplementedError

    async def close(self) -> None:
        """Takes no more in, gives Kafka 2 s for what was read, and has every request answered.

        Called before the application's runner is cleaned up; WebSockets are closed with 1001.
        """
        raise NotImplementedError

    @property
    def state(self) -> str:
        """`starting` until Kafka answered once, `waiting` while it does not answer, else `running`."""
        raise NotImplementedError

    def facts(self) -> dict[str, int]:
        """Figures for the status file and /health: `accepted`, `duplicates`, `refused`, `unknown`, `ignored_fields` so
        far, `in_flight_bytes`, and `sockets`, the WebSockets that are open."""
        raise NotImplementedError
