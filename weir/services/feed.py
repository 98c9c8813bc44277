"""`weir feed connect` from start to end: what runs, in which order it starts, and how it ends."""

from __future__ import annotations

import asyncio

from weir.consumers.feed.reporter import Reporter
from weir.infra import prometheus
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.prometheus import Reading
from weir.infra.runtime.lifecycle import ServiceLifecycle, ServicePart
from weir.infra.runtime.threads import in_daemon
from weir.infra.websocket.service import ProbeEndpoint
from weir.producers.feed.client import FeedClient
from weir.producers.feed.connection import FeedConnection
from weir.producers.feed.status import FeedStatus

#: How long what was received may still take on its way to Kafka's queue after the connection was closed, in seconds.
_WIND_UP = 1.0


class Feed(ServicePart):
    """Connects the feed at `url` with Kafka, both ways. Raises ConfigError for a bad address."""

    def __init__(self, config: Config, url: str, status: FeedStatus) -> None:
        self._config, self._status = config, status
        self._connection = FeedConnection(url, status)
        self._reporter = Reporter(config, self._connection.send, url)
        self._client: FeedClient | None = None
        self._status.connection("starting", url=self._connection.name)

    async def open(self) -> None:
        """Makes the topics that are missing. Raises KafkaUnavailableError."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, timeout=5))

    async def work(self) -> None:
        """Reads and reports until cancelled; then ends within five seconds, with what was received in Kafka."""
        await self._reporter.start()  # before the feed is read: none of its windows can close unseen
        self._client = FeedClient(self._config, self._connection, self._status)
        reading = asyncio.create_task(self._client.run())
        others = [asyncio.create_task(self._connection.run()), asyncio.create_task(self._reporter.run())]
        try:
            await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._connection.close()
            await asyncio.wait([reading], timeout=_WIND_UP)
            for task in (reading, *others):
                task.cancel()
            ended = await asyncio.gather(reading, *others, return_exceptions=True)
            await self._reporter.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    @property
    def state(self) -> str:
        """As `FeedStatus` says it."""
        return self._status.state

    def metrics(self) -> list[Reading]:
        """Counts what came over the feed."""
        counts = {} if self._client is None else self._client.counts
        return prometheus.counted(prometheus.FEED, counts, counts)


async def connect(config: Config, url: str) -> None:
    """Connects the feed at `url` with Kafka, both ways, until cancelled; then ends within five seconds.

    Raises ConfigError for a bad address, and WeirError where something fails that waiting does not help.
    """
    status = FeedStatus(lambda state, facts: lifecycle.changed())
    lifecycle = ServiceLifecycle(config, "feed", facts=status.facts)
    await lifecycle.run(Feed(config, url, status), ProbeEndpoint(config, lifecycle))
