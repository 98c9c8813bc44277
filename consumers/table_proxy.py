"""`GET /tables/…` at the HTTP API: handed on to a worker of the job whose table it is."""

from __future__ import annotations

import random
from urllib.parse import unquote

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from infra import log
from infra.config import Config
from infra.errors import RetryableError
from infra.worker_directory import AFTER_A_MISS_S, FRESH_S, WorkerDirectory
from schemas.errors import UnknownTopicError
from schemas.topics import by_name

#: How long a worker has for its answer. It may have to ask another, which may have to wait for a commit.
_PATIENCE = aiohttp.ClientTimeout(total=30.0, connect=1.0)
#: Seconds after which a client that got 503 may well ask again.
_RETRY_AFTER = 1
#: What topics belong to that a job writes, before its name.
_OWNER = "streams/"

_log = log.get(__name__)


class TableProxy:
    """Hands requests on to any worker that answers: it knows who owns the key."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._workers: dict[str, WorkerDirectory] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Asks nobody any more."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request) -> web.Response:
        """A worker's answer as it is; 404 for what is no table, 503 where no worker answers."""
        path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        name = unquote(path.split("/")[2])
        job = job_of(name)
        if job is None:
            return _error(404, f"there is no table {name!r}")
        target = f"{path}?{query}" if query else path
        try:
            for max_age in (FRESH_S, AFTER_A_MISS_S):
                addresses = await self._directory(job).addresses(max_age)
                for address in random.sample(addresses, len(addresses)):
                    answer = await self._ask(address, target)
                    if answer is not None:
                        return answer
        except RetryableError as e:
            _log.warning("api.unavailable", error=str(e))
            return _error(503, "Kafka cannot be asked right now")
        return _error(503, f"no worker of job {job} answers")

    def _directory(self, job: str) -> WorkerDirectory:
        if job not in self._workers:
            self._workers[job] = WorkerDirectory(self._config, job)
        return self._workers[job]

    async def _ask(self, address: str, target: str) -> web.Response | None:
        """What the worker there answers; None where it does not."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_PATIENCE)
        try:
            async with self._session.get(URL(f"http://{address}{target}", encoded=True)) as response:
                answer = web.Response(
                    status=response.status, body=await response.read(), content_type="application/json"
                )
                if "Retry-After" in response.headers:
                    answer.headers["Retry-After"] = response.headers["Retry-After"]
                return answer
        except (aiohttp.ClientError, TimeoutError) as e:
            _log.debug("api.worker_away", address=address, error=str(e))
            return None


def job_of(table: str) -> str | None:
    """The job that writes the topic of that name; None where there is no such topic, or it is no job's.

    >>> job_of("link-counts"), job_of("relations"), job_of("nothing")
    ('links', None, None)
    """
    try:
        owner = by_name(table).owner
    except UnknownTopicError:
        return None
    return owner.removeprefix(_OWNER) if owner.startswith(_OWNER) else None


def _error(status: int, reason: str) -> web.Response:
    body = {"error": {"reason": reason}}
    response = web.Response(
        status=status,
        body=msgspec.json.encode({"status": "unavailable", **body} if status == 503 else body),
        content_type="application/json",
    )
    if status == 503:
        response.headers["Retry-After"] = str(_RETRY_AFTER)
    return response
