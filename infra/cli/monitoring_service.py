"""`weir run monitoring`: clients' events in, and what is known of clients out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys

import msgspec
from aiohttp import web

from consumers.client_view import ClientView
from consumers.clients_api import RETRY_AFTER, ClientsApi
from infra import log
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import KafkaUnavailableError, PortTakenError
from infra.status import StatusFile
from producers.ingest import MONITORING, Ingest

#: Seconds that running requests have to end when the service stops.
_SHUTDOWN = 1.0
#: How often the status file is written, in seconds.
_TELL = 1.0
#: How long a thread may keep the interpreter while another waits, in seconds. At the default of 5 ms requests wait that
#: long for what reads topics.
_SWITCH = 0.0005
#: After so many more keys, all that is held is left out of the search for cycles: what holds clients' data is none, and
#: to look through a million keys takes a second in which nobody is answered.
_KEYS = 20_000

_log = log.get("monitoring")


class Monitoring:
    """Serves `POST /events`, `GET /clients` and `GET /health` at the configured host and port."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._view = ClientView(config)
        self._ingest = Ingest(config, MONITORING, check=self._view.check_kind)
        self._address = f"http://{config.host}:{config.monitoring_port}"
        self._status = StatusFile(config, "monitoring", self._address)

    async def run(self) -> None:
        """Serves until cancelled, however long Kafka is away: 503 says so. Raises PortTakenError, and WeirError where
        nothing can be written or read any more.

        What was taken in by the end is flushed and answered, within 5 s.
        """
        sys.setswitchinterval(_SWITCH)
        app = web.Application()
        app.add_routes([*self._ingest.routes(), *ClientsApi(self._view).routes(), web.get("/health", self._health)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN, auto_decompress=False)
        tasks: list[asyncio.Task[None]] = []
        self._status.set("starting")
        try:
            await runner.setup()
            try:
                await web.TCPSite(runner, self._config.host, self._config.monitoring_port).start()
            except OSError as e:
                raise PortTakenError(f"{self._address} cannot be had (WEIR_MONITORING_PORT): {e.strerror}") from e
            _log.info("monitoring.running", address=self._address)
            tasks += map(asyncio.create_task, (self._ingest.work(), self._read(), self._tell()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._ingest.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            await self._view.close()
            self._status.remove()

    async def _read(self) -> None:
        backoff = Backoff(first=0.2, cap=3.0)
        while True:
            try:
                await self._view.open()
                break
            except KafkaUnavailableError as e:
                delay = backoff.next()
                _log.warning("monitoring.waiting", error=str(e), retry_in_s=round(delay, 1))
                await asyncio.sleep(delay)
        await self._view.work()

    @property
    def _state(self) -> str:
        """The worse of the two: `waiting`, `starting`, `running`."""
        states = (self._ingest.state, self._view.state)
        return next((state for state in ("waiting", "starting") if state in states), "running")

    async def _health(self, _: web.Request) -> web.Response:
        state = self._state
        body = {
            "status": "ok" if state == "running" else state,
            "lag": self._view.lag(),
            "ingest": self._ingest.facts(),
            "clients": self._view.facts(),
        }
        response = web.Response(body=msgspec.json.encode(body), content_type="application/json")
        if state != "running":
            response.set_status(503)
            response.headers["Retry-After"] = str(RETRY_AFTER)
        return response

    async def _tell(self) -> None:
        """Says how both do, whenever that has changed; and keeps the collector from looking through what is held."""
        said: object = None
        keys = -_KEYS
        while True:
            taken, held, lag = self._ingest.facts(), self._view.facts(), self._view.lag()
            facts: dict[str, str | int | float | bool | None] = {
                **taken,
                **held,
                "behind_records": lag.records,
                "behind_ms": lag.ms,
            }
            if said != (said := (self._state, facts)):
                self._status.set(self._state, **facts)
            keys = min(keys, held["keys"])  # it may have begun anew
            if held["keys"] >= keys + _KEYS:
                keys = held["keys"]
                gc.freeze()
            await asyncio.sleep(_TELL)


async def serve(config: Config) -> None:
    """Runs it."""
    await Monitoring(config).run()
