"""`weir feed connect` from start to end: what runs, in which order it starts, and how it ends."""

from __future__ import annotations

import asyncio

from consumers.reporter import Reporter
from infra import kafka, log
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import RetryableError
from infra.feed import FeedConnection
from infra.feed_status import FeedStatus
from infra.status import StatusFile
from infra.threads import in_daemon
from producers.feed_client import FeedClient

#: How long what was received may still take on its way to Kafka's queue after the connection was closed, in seconds.
_WIND_UP = 1.0

_log = log.get("feed")


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
    backoff = Backoff(first=0.2, cap=3.0)
    while True:
        try:
            await in_daemon(lambda: kafka.ensure_topics(config, timeout=5))
        except RetryableError as e:
            delay = backoff.next()
            status.connection("waiting", waiting_for="Kafka", attempt=backoff.attempt, error=str(e))
            _log.warning("feed.waiting", error=str(e), retry_in_s=round(delay, 1))
            await asyncio.sleep(delay)
        else:
            return


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
