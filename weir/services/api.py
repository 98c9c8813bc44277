"""`weir run api`: the query API, with the tables of every job that the registry has."""

from __future__ import annotations

from weir.consumers.api.server import Api
from weir.infra.config import Config
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS
from weir.services.chains import chain_to
from weir.streams.engine.queries.described import described
from weir.streams.jobs import registry as jobs


async def run(config: Config) -> None:
    """Serves until cancelled."""
    tables = [info for name in jobs.JOBS if (info := described(jobs.make(name, config))) is not None]
    await Api(config, tables, chain_to(config, (LINK_COUNTS, LINK_WINDOWS))).run()
