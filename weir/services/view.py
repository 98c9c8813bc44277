"""An intake and a view in memory under one port: how `weir run metrics` and `weir run monitoring` live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import msgspec
from aiohttp import web

from weir.consumers.views.view import TopicView
from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.http import HttpLimits, HttpServer
from weir.infra.progress.progress import Lag
from weir.infra.runtime.patience import until_answered
from weir.infra.runtime.status import StatusFile
from weir.infra.runtime.threads import in_daemon
from weir.producers.ingest.server import Ingest

#: Seconds that running requests have to end when the service stops.
_SHUTDOWN = 1.0
#: How often the status file is written, in seconds.
_TELL = 1.0
#: Seconds after which a client that got 503 may well ask again.
_RETRY_AFTER = 1

Facts = dict[str, int]


class ViewService:
    """Serves an intake's routes, a view's and its own `health` at the configured host and the port of service `name`.

    `facts` are the view's, which `/health` shows as `shown`.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        port: int,
        ingest: Ingest,
        view: TopicView[Any],
        shown: str,
        facts: Callable[[], Facts],
    ) -> None:
        self._config, self._name, self._port = config, name, port
        self._ingest, self._view, self._shown, self._facts = ingest, view, shown, facts
        self._address = f"http://{config.host}:{port}"
        self._status = StatusFile(config, name, self._address)
        self._saying = Lock()
        self._ended = False
        self._unopened: str | None = None  # why the view cannot be opened yet
        self._log = log.get_logger(name)

    async def run(
        self,
        routes: Iterable[web.RouteDef],
        works: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        close: Callable[[], Awaitable[object]],
    ) -> None:
        """Serves until cancelled, however long Kafka is away: 503 says so. `works` begin once the port is there, and
        run until cancelled; `close` is called at the end. Raises PortTakenError, and WeirError where nothing can be
        written or read any more.

        What was taken in by the end is flushed and answered, within 5 s.
        """
        app = web.Application()
        app.add_routes([*self._ingest.routes(), *routes])
        server = HttpServer(app, HttpLimits.of(self._config.http), shutdown=_SHUTDOWN)
        tasks: list[asyncio.Task[None]] = []
        self._status.set("starting")
        try:
            await server.start(self._config.host, self._port, f"WEIR_{self._name.upper()}_PORT")
            self._log.info(f"{self._name}.running", address=self._address)
            tasks += map(asyncio.create_task, (self._ingest.work(), self._read(), self._tell()))
            tasks += [asyncio.create_task(work()) for work in works]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._ingest.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()
            await close()
            self._end()

    async def _read(self) -> None:
        def told(error: RetryableError, _: int, retry_in_s: float) -> None:
            self._unopened = str(error)
            self._log.warning(f"{self._name}.waiting", error=str(error), retry_in_s=retry_in_s)

        await until_answered(self._view.open, told)
        self._unopened = None
        await self._view.work()

    @property
    def _state(self) -> str:
        """The worse of the two: `waiting`, `starting`, `running`."""
        states = (self._ingest.state, self._view.state if self._unopened is None else "waiting")
        return next((state for state in ("waiting", "starting") if state in states), "running")

    async def health(self, _: web.Request) -> web.Response:
        """The handler of `GET /health`: 503 unless both are running."""
        state = self._state
        body = {
            "status": "ok" if state == "running" else state,
            "lag": self._view.lag(),
            "ingest": self._ingest.facts(),
            self._shown: self._facts(),
        }
        response = web.Response(body=msgspec.json.encode(body), content_type="application/json")
        if state != "running":
            response.set_status(503)
            response.headers["Retry-After"] = str(_RETRY_AFTER)
        return response

    async def _tell(self) -> None:
        """Says how both do, whenever that has changed."""
        said: object = None
        while True:
            lag = self._view.lag()
            facts = self._ingest.facts() | self._facts()
            if said != (said := (self._state, facts, lag)):
                await in_daemon(partial(self._say, self._state, facts, lag))
            await asyncio.sleep(_TELL)

    def _say(self, state: str, facts: Facts, lag: Lag) -> None:
        """Writes the status in a thread: a busy disk would delay every answer."""
        with self._saying:
            if not self._ended:
                why = self._unopened or f"Kafka does not answer at {self._config.kafka.bootstrap}"
                waits = {"error": why} if state == "waiting" else {}
                self._status.set(state, **waits, **facts, behind_records=lag.records, behind_ms=lag.ms)

    def _end(self) -> None:
        with self._saying:
            self._ended = True
            self._status.remove()
