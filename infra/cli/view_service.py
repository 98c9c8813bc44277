"""An intake and a view in memory under one port: how `weir run metrics` and `weir run monitoring` live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import msgspec
from aiohttp import web

from consumers.memory_view import Lag, Viewed
from infra import log
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import KafkaUnavailableError, PortTakenError
from infra.status import StatusFile
from infra.threads import in_daemon
from producers.ingest import Ingest

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
        self, config: Config, name: str, port: int, ingest: Ingest, view: Viewed, shown: str, facts: Callable[[], Facts]
    ) -> None:
        self._config, self._name, self._port = config, name, port
        self._ingest, self._view, self._shown, self._facts = ingest, view, shown, facts
        self._address = f"http://{config.host}:{port}"
        self._status = StatusFile(config, name, self._address)
        self._saying = Lock()
        self._ended = False
        self._log = log.get(name)

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
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN, auto_decompress=False)
        tasks: list[asyncio.Task[None]] = []
        self._status.set("starting")
        try:
            await runner.setup()
            try:
                await web.TCPSite(runner, self._config.host, self._port).start()
            except OSError as e:
                variable = f"WEIR_{self._name.upper()}_PORT"
                raise PortTakenError(f"{self._address} cannot be had ({variable}): {e.strerror}") from e
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
            await runner.cleanup()
            await close()
            self._end()

    async def _read(self) -> None:
        backoff = Backoff(first=0.2, cap=3.0)
        while True:
            try:
                await self._view.open()
                break
            except KafkaUnavailableError as e:
                delay = backoff.next()
                self._log.warning(f"{self._name}.waiting", error=str(e), retry_in_s=round(delay, 1))
                await asyncio.sleep(delay)
        await self._view.work()

    @property
    def _state(self) -> str:
        """The worse of the two: `waiting`, `starting`, `running`."""
        states = (self._ingest.state, self._view.state)
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
        """In a thread: a disk that is busy would hold up every answer."""
        with self._saying:
            if not self._ended:
                self._status.set(state, **facts, behind_records=lag.records, behind_ms=lag.ms)

    def _end(self) -> None:
        with self._saying:
            self._ended = True
            self._status.remove()
