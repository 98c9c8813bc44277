"""Events in over HTTP and WebSocket: each is checked, written to its topic, and answered once Kafka has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.prometheus import Reading
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.lifecycle import ServicePart
from weir.infra.runtime.patience import until_answered
from weir.producers.ingest.intake import METRICS, MONITORING, Intake
from weir.producers.ingest.request import Positions
from weir.producers.ingest.routes import HttpIngest
from weir.producers.ingest.websocket import WebSocketIngest
from weir.producers.ingest.writer import COUNTED, IngestWriter

__all__ = ["METRICS", "MONITORING", "Ingest", "Intake"]

#: Seconds that Kafka has for what is left at the end, and then WebSockets for their last answers.
FLUSH_TIMEOUT, CLOSE_TIMEOUT = 2.0, 1.5

_log = log.get_logger("ingest")


class Ingest(ServicePart):
    """The endpoints of one intake, for the aiohttp application that they are added to:

        ingest = Ingest(config, MONITORING, check=one_kind_per_key)
        app.add_routes(ingest.routes())
        …
        working = asyncio.create_task(ingest.work())  # opens as soon as Kafka answers; until then senders get 503
        …
        await ingest.close()                          # then server.stop()

    The application's own limit of a body's size does not matter.

    `check` is called with every event that is otherwise fit, and raises ValueError("`field` …") where what is known
    now forbids it. `positions` makes the positions of answers; without it they have none. `clock` gives epoch
    milliseconds. For one event loop.
    """

    def __init__(
        self,
        config: Config,
        intake: Intake,
        *,
        check: Callable[[Any], object] | None = None,
        positions: Positions | None = None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._name = intake.name
        self._writer = IngestWriter(config, intake, check, clock, positions)
        self._http = HttpIngest(config, intake, self._writer)
        self._sockets = WebSocketIngest(config, intake.websocket, self._writer) if intake.websocket else None
        self._ready = False

    def routes(self) -> list[web.RouteDef]:
        """POST, and the WebSocket where the intake has one."""
        return [self._http.route(), *([self._sockets.route()] if self._sockets else [])]

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await self._writer.open()
        self._ready = True
        self._let_in(True)

    async def work(self) -> None:
        """Opens, however long Kafka is away, and runs until cancelled. Raises WeirError where nothing can be written
        any more: then the process is to end, and start again."""

        def told(error: RetryableError, _: int, retry_in_s: float) -> None:
            _log.warning("ingest.waiting", intake=self._name, error=str(error), retry_in_s=retry_in_s)

        if not self._ready:
            await until_answered(self.open, told)
        await self._writer.work()

    async def close(self) -> None:
        """Takes no more in, gives Kafka 2 s for what was read, and has every request answered.

        Called before the application's server is stopped; WebSockets are closed with 1001.
        """
        if not self._ready:
            return
        self._ready = False
        self._let_in(False)
        self._http.close()
        if self._sockets:
            self._sockets.close()
        await self._writer.close(FLUSH_TIMEOUT)
        if self._sockets:
            await self._sockets.closed(CLOSE_TIMEOUT)

    @property
    def state(self) -> str:
        """`starting` until Kafka answered once, `waiting` while it does not answer, else `running`."""
        if not self._ready:
            return "starting"
        return "waiting" if self._writer.flight.away else "running"

    def facts(self) -> dict[str, int]:
        """Figures for the status file and /health: `accepted`, `duplicates`, `refused`, `unknown`, `ignored_fields` so
        far, `in_flight_bytes`, and `sockets`, the WebSockets that are open."""
        said = {name: self._writer.counts[name] for name in COUNTED}
        return said | {
            "in_flight_bytes": self._writer.flight.size,
            "sockets": self._sockets.count if self._sockets else 0,
        }

    def metrics(self) -> list[Reading]:
        """Events by what became of them, and the bytes that wait for Kafka."""
        return [
            *prometheus.counted(prometheus.INGESTED, self._writer.counts, sorted(COUNTED), self._name),
            Reading(prometheus.IN_FLIGHT, self._writer.flight.size, (self._name,)),
        ]

    def _let_in(self, let: bool) -> None:
        self._http.is_open = let
        if self._sockets:
            self._sockets.is_open = let
