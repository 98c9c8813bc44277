"""`weir run metrics`: metric events in, and what they come to out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from threading import Lock

import msgspec
from aiohttp import web

from consumers.aggregates_api import RETRY_AFTER, AggregatesApi
from consumers.metric_answers import SWITCH_S, Answers
from consumers.metric_view import MetricView
from infra import log
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import KafkaUnavailableError, PortTakenError
from infra.status import StatusFile
from infra.threads import in_daemon
from producers.ingest import METRICS, Ingest

#: Seconds that running requests have to end when the service stops.
_SHUTDOWN = 1.0
#: How often the status file is written, in seconds.
_TELL = 1.0

_log = log.get("metrics")

Facts = dict[str, str | int | float | bool | None]


class Metrics:
    """Serves `POST /metric-events`, `/ws/metric-events`, `GET /aggregates` and `GET /health` at the configured host and
    port."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._view = MetricView(config)
        self._answers = Answers(config, self._view)
        self._ingest = Ingest(config, METRICS)
        self._address = f"http://{config.host}:{config.metrics_port}"
        self._status = StatusFile(config, "metrics", self._address)
        self._saying = Lock()
        self._ended = False

    async def run(self) -> None:
        """Serves until cancelled, however long Kafka is away: 503 says so. Raises PortTakenError, and WeirError where
        nothing can be written or read any more.

        What was taken in by the end is flushed and answered, within 5 s.
        """
        sys.setswitchinterval(SWITCH_S)
        app = web.Application()
        api = AggregatesApi(self._view, self._answers)
        app.add_routes([*self._ingest.routes(), *api.routes(), web.get("/health", self._health)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN, auto_decompress=False)
        tasks: list[asyncio.Task[None]] = []
        self._status.set("starting")
        try:
            await runner.setup()
            try:
                await web.TCPSite(runner, self._config.host, self._config.metrics_port).start()
            except OSError as e:
                raise PortTakenError(f"{self._address} cannot be had (WEIR_METRICS_PORT): {e.strerror}") from e
            gc.freeze()  # what is loaded stays: looking through it now and then would hold up everybody for 40 ms
            _log.info("metrics.running", address=self._address)
            works = (self._ingest.work(), self._read(), self._answers.work(), self._tell())
            tasks += map(asyncio.create_task, works)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._ingest.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            await asyncio.gather(self._answers.close(), self._view.close())
            self._end()

    async def _read(self) -> None:
        backoff = Backoff(first=0.2, cap=3.0)
        while True:
            try:
                await self._view.open()
                break
            except KafkaUnavailableError as e:
                delay = backoff.next()
                _log.warning("metrics.waiting", error=str(e), retry_in_s=round(delay, 1))
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
            "aggregates": self._answers.facts() | self._view.facts(),
        }
        response = web.Response(body=msgspec.json.encode(body), content_type="application/json")
        if state != "running":
            response.set_status(503)
            response.headers["Retry-After"] = str(RETRY_AFTER)
        return response

    async def _tell(self) -> None:
        """Says how both do, whenever that has changed."""
        said: object = None
        while True:
            lag = self._view.lag()
            facts: Facts = {
                **self._ingest.facts(),
                **self._answers.facts(),
                **self._view.facts(),
                "behind_records": lag.records,
                "behind_ms": lag.ms,
            }
            if said != (said := (self._state, facts)):
                await in_daemon(partial(self._say, self._state, facts))
            await asyncio.sleep(_TELL)

    def _say(self, state: str, facts: Facts) -> None:
        """In a thread: a disk that is busy would hold up every answer."""
        with self._saying:
            if not self._ended:
                self._status.set(state, **facts)

    def _end(self) -> None:
        with self._saying:
            self._ended = True
            self._status.remove()


async def serve(config: Config) -> None:
    """Runs it."""
    await Metrics(config).run()
