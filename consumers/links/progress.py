"""How far the windows in Postgres are behind the calls that were accepted."""

from __future__ import annotations

from weir.consumers.links.routes import Connect
from weir.consumers.links.tables import LINK_STORE
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.progress.chain import Chain
from weir.infra.progress.progress import Progress
from weir.schemas.topic import PartitionId


def link_progress(config: Config, connect: Connect, chain: Chain) -> Progress:
    """The progress of the chain whose results `link-store` stores."""
    names = {config.topic(topic): topic for topic in chain.results}

    async def stored() -> dict[PartitionId, int]:
        async with connect() as connection:
            with postgres.translated():
                found = await connection.execute(
                    "SELECT topic, partition, next_offset FROM sink_offsets WHERE sink = %s", [LINK_STORE]
                )
                return {(names[topic], p): offset for topic, p, offset in await found.fetchall() if topic in names}

    return Progress(config, chain, stored=stored)
