"""Where a worker serves HTTP: `GET /tables`, `GET /tables/{name}/{key}` and `GET /health`."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from aiohttp import web

from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import PortTakenError, RetryableError
from weir.infra.http import HttpLimits, HttpServer
from weir.infra.http.endpoint import add_operations
from weir.infra.http.parameters import BadRequestError
from weir.infra.http.responses import bad_request, json_response, not_found, unavailable
from weir.infra.kafka.table_info import TableList as Described
from weir.infra.kafka.worker_directory import client_id
from weir.infra.prometheus import Reading
from weir.infra.version import VERSION
from weir.streams.engine.core.job import Job
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.queries.directory import table_task
from weir.streams.engine.queries.queries import ANSWERS, FORWARDED, NotHereError, QueryResult, TableQueries
from weir.streams.engine.queries.requests import TableQuery, check, parse

#: Seconds that running requests have to end when the worker stops.
SHUTDOWN_S = 0.5

_log = log.get_logger(__name__)
_said = log.Limited(_log)


class Endpoint:
    """The HTTP endpoint of one worker. `listen` comes before the worker joins its group: its client id says where."""

    def __init__(self, config: Config, job: Job, plane: DataPlane) -> None:
        self._config, self._job, self._plane = config, job, plane
        self._socket: socket.socket | None = None
        self._server: HttpServer | None = None
        self._tables: TableQueries | None = None

    def listen(self) -> None:
        """Takes the port, once. Raises PortTakenError."""
        if self._socket is not None:
            return
        host, port = self._config.host, self._config.worker.port
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as e:
            raise PortTakenError(
                f"cannot listen at http://{host}:{port}: {e.strerror}; set WEIR_WORKER_PORT to a free port"
            ) from e

    @property
    def client_id(self) -> str:
        """The client id of this worker's Kafka clients, which carries the worker's address."""
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
            self._tables = TableQueries(self._config, self._job, task, self._plane, own)
        app = web.Application()
        app.router.add_get("/tables", self._list)
        app.router.add_get("/tables/{rest:.*}", self._table)
        app.router.add_get("/health", self._health)
        add_operations(app, self)
        self._server = HttpServer(app, HttpLimits.of(self._config.http), shutdown=SHUTDOWN_S)
        await self._server.start_on(self._socket)
        _log.info("worker.serves", address=self.address)

    async def stop(self) -> None:
        """Lets running requests end, and closes the port."""
        if self._server is not None:
            await self._server.stop()
        if self._tables is not None:
            await self._tables.close()

    @property
    def service(self) -> str:
        """The worker's name among services."""
        return f"worker-{self._job.name}"

    @property
    def state(self) -> str:
        """`running`, or `waiting`."""
        return self._plane.state[0]

    @property
    def reason(self) -> str | None:
        """Says what the worker waits for; None where it has no partitions, or runs."""
        return self._plane.state[2]

    def metrics(self) -> Iterator[Reading]:
        """The metrics of the worker."""
        yield Reading(prometheus.INFO, 1, (self.service, VERSION))
        yield Reading(prometheus.READY, self.state == "running", (self.service,))
        yield from self._plane.metrics()
        if self._server is not None:
            yield from self._server.metrics()

    async def _health(self, _: web.Request) -> web.Response:
        state, own, reason = self._plane.state
        body = {"status": "ok", "job": self._job.name, "state": state, "partitions": own}
        more = {"error": reason, "dropped": self._plane.dropped}
        return json_response(200, body | {name: value for name, value in more.items() if value is not None})

    async def _list(self, _: web.Request) -> web.Response:
        """The job's table, if it has one."""
        own = [] if self._tables is None else [await self._tables.state()]
        return json_response(200, Described(own), {ANSWERS: self._config.topic(self._job.name)})

    async def _table(self, request: web.Request) -> web.Response:
        table = self._job.table
        if self._tables is not None and table is not None and request.rel_url.raw_path == f"/tables/{table.name}":
            return json_response(200, await self._tables.state(), {ANSWERS: self._tables.group})
        try:
            question = parse(request.rel_url.raw_path, request.query.items())
            if self._tables is None or table is None or question.table != table.name:
                has = "has none" if table is None else f"has {table.name}"
                reason = f"job {self._job.name} has no table {question.table!r}; the job {has}"
                return not_found(reason)
            check(question, self._job)
        except BadRequestError as e:
            return bad_request(e)
        try:
            status, body = await self._answer(self._tables, question, request)
        except (NotHereError, RetryableError) as e:
            _said.info("table.not_here", table=question.table, error=str(e))
            return unavailable(str(e))
        return json_response(status, body, {ANSWERS: self._tables.group})

    async def _answer(self, tables: TableQueries, question: TableQuery, request: web.Request) -> QueryResult:
        forwarded = request.headers.get(FORWARDED)
        if forwarded is None:
            query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
            return await tables.answer(question, request.rel_url.raw_path + query)
        group, _, partitions = forwarded.partition(" ")
        if group != tables.group:
            raise NotHereError(f"this worker is of group {tables.group}, not of {group}")
        try:
            return await tables.own(question, [int(partition) for partition in partitions.split(",")])
        except ValueError as e:
            raise NotHereError(f"header {FORWARDED}: no list of partitions in {forwarded!r}") from e
