"""`weir feed connect` from start to end: what runs, in which order it starts, and how it ends."""

from __future__ import annotations

import asyncio

from weir.consumers.feed.reporter import Reporter
from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.kafka import client as kafka
from weir.infra.runtime.patience import until_answered
from weir.infra.runtime.status import StatusFile
from weir.infra.runtime.threads import in_daemon
from weir.producers.feed.client import FeedClient
from weir.producers.feed.connection import FeedConnection
from weir.producers.feed.status import FeedStatus

#: How long what was received may still take on its way to Kafka's queue after the connection was closed, in seconds.
_WIND_UP = 1.0

_log = log.get_logger("feed")


async def connect(config: Config, url: str) -> None:
    """Connects the feed at `url` with Kafka, both ways, until cancelled; then ends within five seconds.

    Raises ConfigError for a bad address, and WeirError where something fails that waiting does not help.
    """
    file = StatusFile(config, "feed")
    status = FeedStatus(file)
    connection = FeedConnection(url, status)
    status.connection("starting", url=connection.name)
    try:
        await _make_topics(config, status)
        await _run(config, connection, status, url)
    finally:
        file.remove()


async def _make_topics(config: Config, status: FeedStatus) -> None:
    """Makes the topics that are missing, however long Kafka takes to answer."""

    def told(error: RetryableError, attempt: int, retry_in_s: float) -> None:
        status.connection("waiting", waiting_for="Kafka", attempt=attempt, error=str(error))
        _log.warning("feed.waiting", error=str(error), retry_in_s=retry_in_s)

    await until_answered(lambda: in_daemon(lambda: kafka.ensure_topics(config, timeout=5)), told)


async def _run(config: Config, connection: FeedConnection, status: FeedStatus, url: str) -> None:
    reporter = Reporter(config, connection.send, url)
    await reporter.start()  # before the feed is read: none of its windows can close unseen
    reading = asyncio.create_task(FeedClient(config, connection, status).run())
    others = [asyncio.create_task(connection.run()), asyncio.create_task(reporter.run())]
    try:
        await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await connection.close()
        await asyncio.wait([reading], timeout=_WIND_UP)
        for task in (reading, *others):
            task.cancel()
        ended = await asyncio.gather(reading, *others, return_exceptions=True)
        await reporter.close()
    for error in ended:
        if isinstance(error, Exception):
            raise error
