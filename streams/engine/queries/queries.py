"""Answers from a job's table: for the keys that this worker owns from memory, for all others from whoever owns them.

Only what is committed is answered. Where a cell may hold what is not, it is read at the moment when a flush takes it,
and answered when that flush is committed. So what is answered is in the log, and a later answer is never older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import aiohttp
import msgspec
from yarl import URL

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import StoppedError
from weir.infra.kafka.table_info import TableLag, TableState
from weir.infra.runtime.clock import wall_clock
from weir.schemas.errors import WeirError
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.core.job import Job, TaskTopic
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.progress.lag import CachedProgress, Partition, PartitionProgress
from weir.streams.engine.queries.described import described
from weir.streams.engine.queries.directory import Directory
from weir.streams.engine.queries.requests import TableQuery, is_final, select_cells, shown

#: How long a commit is waited for, in seconds, besides the time until it begins: what a broker that stumbles needs.
COMMIT_S = 5.0
#: How many lingers it may take until it begins, with room to spare; and how long at least, of a task that is behind.
LINGERS = 10
#: How long another worker has to be reached, and what it has for its answer besides waiting for a commit.
CONNECT_S, ANSWER_S = 1.0, 5.0
#: The header that says which job is asked, and of which partitions. Who gets it answers by itself.
FORWARDED = "Weir-Asked"
#: The header that says which job has answered.
ANSWERS = "Weir-Job"

_log = log.get_logger(__name__)
_json = msgspec.json.Encoder(decimal_format="number").encode


class NotHereError(WeirError):
    """No worker can answer right now."""


class QueryResult(NamedTuple):
    """An HTTP status, and JSON."""

    status: int
    body: bytes


class QueryableStage(Protocol):
    """A stage that can be asked. `find` gives a key's cells as they are in memory."""

    @property
    def watermark(self) -> int | None: ...
    def find(self, key: Key) -> Sequence[Any]: ...
    def pending(self, key: Key) -> bool:
        """Whether something of the key's is not committed yet."""


class TableQueries:
    """The table of one job, asked through one of its workers. `own` is that worker's address, host:port."""

    def __init__(self, config: Config, job: Job, task: TaskTopic, plane: DataPlane, own: str) -> None:
        self._job, self._task, self._plane, self._own = job, task, plane, own
        self.group = config.topic(job.name)
        self._config = config
        self._directory = Directory(config, job, task)
        self._lag: CachedProgress | None = None
        self._patience = COMMIT_S + LINGERS * job.linger / 1000
        timeout = aiohttp.ClientTimeout(total=self._patience + ANSWER_S, connect=CONNECT_S)
        self._session = aiohttp.ClientSession(timeout=timeout)

    async def close(self) -> None:
        """Asks nobody any more."""
        await self._session.close()

    async def state(self) -> TableState:
        """Returns the table's description and how far it is behind; the lag is None if Kafka does not answer."""
        info = described(self._job)
        assert info is not None
        lag = TableLag(None)
        workers = 1
        try:
            workers = len(await self._directory.addresses())
            lag = TableLag(sum(place.behind for place in (await self._places()).values()))
        except WeirError as e:
            _log.info("table.lag_unknown", table=info.table, error=str(e))
        return TableState(**msgspec.structs.asdict(info), state="running", workers=workers, lag=lag)

    async def answer(self, question: TableQuery, target: str) -> QueryResult:
        """The answer, from whoever owns the key; `target` is the request's path and query as they came.

        Raises NotHereError where it is on its way from one worker to another, KafkaUnavailableError where Kafka does
        not say who owns it.
        """
        partitions = await self._directory.partitions(question.key)
        try:
            return await self._route(question, target, partitions, missed=False)
        except NotHereError:  # what is known of the workers may be a second old
            return await self._route(question, target, partitions, missed=True)

    async def _route(self, question: TableQuery, target: str, partitions: Sequence[int], missed: bool) -> QueryResult:
        living = {p for topic, p in self._plane.tasks if topic == self._task.topic.name}
        here = [p for p in partitions if p in living]
        found = [await self.own(question, here)] if here else []
        elsewhere = [p for p in partitions if p not in living]
        for address, theirs in (await self._directory.workers(elsewhere, missed) if elsewhere else {}).items():
            if found and found[-1].status == 200:
                break
            if address is None or address == self._own:
                raise NotHereError(f"partition {theirs[0]} of the table is moving from one worker to another")
            found.append(await self._ask(address, target, theirs))
        return found[-1]

    async def _ask(self, address: str, target: str, partitions: Sequence[int]) -> QueryResult:
        """Another worker's answer. It asks nobody further."""
        headers = {FORWARDED: f"{self.group} {','.join(map(str, partitions))}"}
        try:
            async with self._session.get(URL(f"http://{address}{target}", encoded=True), headers=headers) as response:
                if response.headers.get(ANSWERS) != self.group or response.status not in (200, 404):
                    raise NotHereError(f"the worker at {address} cannot answer for partition {partitions[0]} now")
                return QueryResult(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as e:
            raise NotHereError(f"the worker at {address} does not answer") from e

    async def own(self, question: TableQuery, partitions: Sequence[int]) -> QueryResult:
        """The answer of this worker alone. Raises NotHereError where it does not have these partitions."""
        cells: list[dict[str, Any]] = []
        records, marks = 0, []
        for partition in partitions:
            task = self._plane.tasks.get((self._task.topic.name, partition))
            if task is None or task.closed:
                raise NotHereError(f"partition {partition} of the table is not on this worker, or not opened yet")
            stage = cast(QueryableStage, task.stage)
            read = partial(_read, stage, question)
            found = read()
            if stage.pending(question.key) or any(map(is_final, found)):
                found = await self._commit(task.committed(read))
            cells += map(shown, found)
            marks.append(stage.watermark)
            committed, behind = await self._behind(partition)
            if committed > task.position:
                raise NotHereError(f"partition {partition} of the table has been taken over by another worker")
            records = max(records, behind)
        body: dict[str, Any] = {"table": question.table, "key": question.key, "partition": partitions[0]}
        lag = {"records": records, "ms": _behind_ms(marks) if records else 0}
        if not cells:
            which = "" if question.window is None else " in this window"
            return QueryResult(
                404, _json(body | {"error": {"reason": f"there is nothing for this key{which}"}, "lag": lag})
            )
        return QueryResult(200, _json(body | {"cells": cells, "lag": lag}))

    async def _commit(self, committed: asyncio.Future[list[Any]]) -> list[Any]:
        try:
            return await asyncio.wait_for(committed, self._patience)
        except StoppedError as e:
            raise NotHereError(str(e)) from e
        except TimeoutError as e:
            raise NotHereError(f"the worker has not committed for {self._patience:.0f} s") from e

    async def _places(self) -> Mapping[Partition, PartitionProgress]:
        if self._lag is None:
            self._lag = CachedProgress(self._config, self._job.name, await self._directory.counts())
        return await self._lag.places()

    async def _behind(self, partition: int) -> tuple[int, int]:
        """How far the group is in a partition of the table, and how many records will change it that are known now."""
        places = await self._places()
        own = places[self._task.topic.name, partition]
        if self._task.source:
            return own.committed, own.behind
        source = self._job.source.name
        return own.committed, own.behind + sum(place.behind for (topic, _), place in places.items() if topic == source)


def _read(stage: QueryableStage, question: TableQuery) -> list[Any]:
    return select_cells(stage.find(question.key), question)


def _behind_ms(marks: Sequence[int | None]) -> int | None:
    """How far the earliest of these watermarks is behind the clock; None: no event has been counted yet."""
    known = [mark for mark in marks if mark is not None]
    return max(0, wall_clock() - min(known)) if len(known) == len(marks) else None
