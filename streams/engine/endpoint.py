"""Where a worker serves HTTP: `GET /tables/{name}/{key}` and `GET /health`."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import msgspec
from aiohttp import web

from infra import log
from infra.config import Config
from infra.errors import PortTakenError, RetryableError
from infra.worker_directory import client_id
from streams.engine.dataplane import DataPlane
from streams.engine.directory import table_task
from streams.engine.job import Job
from streams.engine.queries import ANSWERS, ASKED, Answer, NotHereError, Tables
from streams.engine.questions import BadRequestError, Question, check, parse

#: Seconds after which a client that got 503 may well ask again.
RETRY_AFTER = 1
#: Seconds that running requests have to end when the worker stops.
SHUTDOWN_S = 0.5

_log = log.get(__name__)


class Endpoint:
    """The HTTP endpoint of one worker. `listen` comes before the worker joins its group: its client id says where."""

    def __init__(self, config: Config, job: Job, plane: DataPlane) -> None:
        self._config, self._job, self._plane = config, job, plane
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._tables: Tables | None = None

    def listen(self) -> None:
        """Takes the port, once. Raises PortTakenError."""
        if self._socket is not None:
            return
        host, port = self._config.host, self._config.worker_port
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as e:
            raise PortTakenError(f"http://{host}:{port} cannot be had (WEIR_WORKER_PORT): {e.strerror}") from e

    @property
    def client_id(self) -> str:
        """What the worker calls itself towards Kafka."""
        assert self._socket is not None
        return client_id(self._config.reached_at, self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Where others reach it: http://host:port."""
        return f"http://{self.client_id.partition('@')[2]}"

    async def start(self) -> None:
        """Serves until `stop`."""
        assert self._socket is not None
        task = table_task(self._job)
        if task is not None:
            own = self.client_id.partition("@")[2]
            self._tables = Tables(self._config, self._job, task, self._plane, own)
        app = web.Application()
        app.router.add_get("/tables/{rest:.*}", self._table)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        _log.info("worker.serves", address=self.address)

    async def stop(self) -> None:
        """Lets running requests end, and closes the port."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._tables is not None:
            await self._tables.close()

    async def _health(self, _: web.Request) -> web.Response:
        own = sorted(f"{topic}[{partition}]" for topic, partition in self._plane.tasks)
        body = {"status": "ok", "job": self._job.name, "state": "running" if own else "waiting", "partitions": own}
        dropped = self._plane.dropped
        return _json(200, body if dropped is None else body | {"dropped": dropped})

    async def _table(self, request: web.Request) -> web.Response:
        try:
            question = parse(request.rel_url.raw_path, request.query.items())
            if self._tables is None or self._job.table is None or question.table != self._job.table.name:
                return _json(404, {"error": {"reason": f"job {self._job.name} has no table {question.table}"}})
            check(question, self._job)
        except BadRequestError as e:
            return _json(400, {"error": {"field": e.field, "reason": e.reason}})
        try:
            status, body = await self._answer(self._tables, question, request)
        except (NotHereError, RetryableError) as e:
            _log.info("table.not_here", table=question.table, error=str(e))
            reason = {"status": "unavailable", "error": {"reason": str(e)}}
            return _json(503, reason, {"Retry-After": str(RETRY_AFTER)})
        headers = {ANSWERS: self._tables.group}
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    async def _answer(self, tables: Tables, question: Question, request: web.Request) -> Answer:
        asked = request.headers.get(ASKED)
        if asked is None:
            query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
            return await tables.answer(question, request.rel_url.raw_path + query)
        group, _, partitions = asked.partition(" ")
        if group != tables.group:
            raise NotHereError(f"this is a worker of {tables.group}, not of {group}")
        try:
            return await tables.own(question, [int(partition) for partition in partitions.split(",")])
        except ValueError as e:
            raise NotHereError(f"{ASKED}: {asked!r} says nothing") from e


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)
