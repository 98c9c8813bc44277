"""Which tables there are: those of the jobs that are known, and those that running workers say they have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from yarl import URL

from weir.infra import log
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.table_info import TableInfo, TableLag, TableList, TableState
from weir.infra.kafka.worker_directory import FRESH_S, Member, crews
from weir.infra.runtime.single_flight import SingleFlight
from weir.infra.runtime.threads import in_daemon

#: How long a worker has to say what its table is.
_PATIENCE = aiohttp.ClientTimeout(total=5.0, connect=1.0)
#: So many workers of a job are asked, one after the other.
_TRIED = 2
#: The header in which a worker says which job it is of.
_JOB = "Weir-Job"

_log = log.get_logger(__name__)
_decode = msgspec.json.Decoder(TableList).decode


class TableDirectory:
    """The tables, as of at most a second ago; what was learnt of a table is kept when its last worker ends.

    `known` are those of the jobs that this weir has. The truth of the others is at Kafka's group coordinators: a job is
    a group, a worker's client id is its address (`weir.infra.kafka.worker_directory`), and a worker says what its table
    is.
    """

    def __init__(self, config: Config, known: Sequence[TableInfo]) -> None:
        self._config, self._admin = config, kafka.admin(config)
        self._known: dict[str, TableInfo] = {info.table: info for info in known}
        self._states = SingleFlight(self._ask)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Asks nobody any more."""
        if self._session is not None:
            await self._session.close()

    async def job_of(self, table: str) -> str | None:
        """Returns the job that has the table; None for an unknown table. Raises KafkaUnavailableError."""
        if table not in self._known:
            await self._states.get(FRESH_S)
        return self._known[table].job if table in self._known else None

    def names(self) -> list[str]:
        """The tables that are known."""
        return sorted(self._known)

    async def states(self) -> Mapping[str, TableState]:
        """Every table as it is, by name. Raises KafkaUnavailableError."""
        return await self._states.get(FRESH_S)

    async def _ask(self) -> dict[str, TableState]:
        found = await in_daemon(lambda: crews(self._admin, self._config))
        told = await asyncio.gather(*(self._told(group, members) for group, members in found.items()))
        running = {state.table: state for states in told for state in states}
        for table, state in running.items():
            self._known[table] = TableInfo(**{f: getattr(state, f) for f in TableInfo.__struct_fields__})
        counts = {group: sum(member.address is not None for member in members) for group, members in found.items()}
        return {
            table: running.get(table) or _silent(self._known[table], counts.get(self._config.topic(info.job), 0))
            for table, info in sorted(self._known.items())
        }

    async def _told(self, group: str, members: Sequence[Member]) -> Sequence[TableState]:
        """The tables of a group's job, as one of its workers says; none where none answers, or it is another weir's."""
        addresses = [member.address for member in members if member.address is not None]
        for address in random.sample(addresses, min(_TRIED, len(addresses))):
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=_PATIENCE)
            try:
                async with self._session.get(URL(f"http://{address}/tables")) as response:
                    if response.headers.get(_JOB) != group:
                        continue  # the address has passed to somebody else
                    tables = _decode(await response.read()).tables
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as e:
                _log.debug("api.worker_away", address=address, error=str(e))
                continue
            return [state for state in tables if self._config.topic(state.job) == group]
        return []


def _silent(info: TableInfo, workers: int) -> TableState:
    state = "waiting" if workers else "stopped"
    return TableState(**msgspec.structs.asdict(info), state=state, workers=workers, lag=TableLag(None))
