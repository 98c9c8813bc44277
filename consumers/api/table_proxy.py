"""`GET /tables` at the HTTP API: which there are; a key is handed on to a worker of the job whose table it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from weir.consumers.api.table_directory import TableDirectory
from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.http.responses import json_response, not_found, unavailable
from weir.infra.kafka.table_info import TableInfo, TableList
from weir.infra.kafka.worker_directory import AFTER_A_MISS_S, FRESH_S, WorkerDirectory
from weir.infra.retry_after import RETRY_SOON

#: How long a worker has for its answer. It may have to ask another, which may have to wait for a commit.
_PATIENCE = aiohttp.ClientTimeout(total=30.0, connect=1.0)

_log = log.get_logger(__name__)
_said = log.Limited(_log)


class TableProxy:
    """Hands requests on to any worker that answers: it knows who owns the key. `known` are the known jobs' tables."""

    def __init__(self, config: Config, known: Sequence[TableInfo] = ()) -> None:
        self._config = config
        self._tables = TableDirectory(config, known)
        self._workers: dict[str, WorkerDirectory] = {}
        self._session: aiohttp.ClientSession | None = None

    def routes(self) -> list[web.RouteDef]:
        """`GET /tables`, and a table's own."""
        return [web.get("/tables", self._list), web.get("/tables/{rest:.*}", self._handle)]

    async def close(self) -> None:
        """Asks nobody any more."""
        await self._tables.close()
        if self._session is not None:
            await self._session.close()

    async def _list(self, _: web.Request) -> web.Response:
        try:
            return json_response(200, TableList(list((await self._tables.states()).values())))
        except RetryableError as e:
            return _kafka_away(e)

    async def _handle(self, request: web.Request) -> web.Response:
        """Answers with a table's description or, for a key, with a worker's answer. 404: no such table; 503: no worker
        answers.
        """
        path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        _, _, named, *key = path.split("/")
        name = unquote(named)
        try:
            job = await self._tables.job_of(name)
            if job is None:
                known = ", ".join(self._tables.names())
                return not_found(f"unknown table {name!r}; tables: {known} (GET /tables describes them)")
            if not key:
                return json_response(200, (await self._tables.states())[name])
            target = f"{path}?{query}" if query else path
            for max_age in (FRESH_S, AFTER_A_MISS_S):
                addresses = await self._directory(job).addresses(max_age)
                for address in random.sample(addresses, len(addresses)):
                    answer = await self._ask(address, target)
                    if answer is not None:
                        return answer
        except RetryableError as e:
            return _kafka_away(e)
        return unavailable(f"no worker of job {job} answers; `weir worker {job}` starts one")

    def _directory(self, job: str) -> WorkerDirectory:
        if job not in self._workers:
            self._workers[job] = WorkerDirectory(self._config, job)
        return self._workers[job]

    async def _ask(self, address: str, target: str) -> web.Response | None:
        """Returns the answer of the worker at `address`; None if the worker does not answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_PATIENCE)
        try:
            async with self._session.get(URL(f"http://{address}{target}", encoded=True)) as response:
                passed = {name: response.headers[name] for name in RETRY_SOON if name in response.headers}
                return json_response(response.status, await response.read(), passed)
        except (aiohttp.ClientError, TimeoutError) as e:
            _log.debug("api.worker_away", address=address, error=str(e))
            return None


def _kafka_away(error: RetryableError) -> web.Response:
    _said.warning("api.unavailable", error=str(error))
    return unavailable("Kafka does not answer; retry later")
