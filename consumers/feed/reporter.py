"""The way back to the feed: whole windows as summaries over its socket."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from weir.consumers.feed.assembler import WindowAssembler
from weir.consumers.feed.source import WindowSource
from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import FeedClosedError, OffsetLostError, RetryableError
from weir.infra.kafka import client as kafka
from weir.infra.runtime.backoff import Backoff
from weir.infra.runtime.threads import in_daemon
from weir.schemas.links import WindowSummary
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS

#: Seconds between commits where nothing is reported: they bound what a restart reads again, and keep Kafka from
#: forgetting a group that has been quiet for a week.
_COMMIT_EVERY = 30.0
_POLL = 0.5

_log = log.get_logger(__name__)
T = TypeVar("T")


class Reporter:
    """Sends every window that closes, as JSON, through `send`: at least once, and again whenever it is revised.

    `send` waits for a connection; where it raises RetryableError the same window is sent again. `name` is the feed's:
    a reporter that starts under a name that has reported before goes on where that left off, whatever happened in
    between; under a new one it reports the windows that close from then on. Two at once under one name both report.
    """

    def __init__(self, config: Config, send: Callable[[bytes], Awaitable[None]], name: str) -> None:
        self._config = config
        self._send = send
        self._name = name
        self._group = f"reporter-{hashlib.sha256(name.encode()).hexdigest()[:16]}"  # a URL may hold a password
        self._horizon = config.links.retention + 2 * config.links.window
        self._backoff = Backoff(first=0.2, cap=5.0)
        self._source: WindowSource | None = None
        self._assembler = WindowAssembler([], self._horizon)
        self._committed = 0.0

    async def start(self) -> None:
        """Settles from where on is reported; to be awaited before the feed is read. Waits while Kafka is away."""
        while self._source is None:
            try:
                await in_daemon(lambda: kafka.ensure_topics(self._config, [LINK_COUNTS, LINK_WINDOWS], timeout=5))
                await self._open()
            except RetryableError as e:
                await self._wait("reporter.waiting", e)

    async def run(self) -> None:
        """Reports until cancelled, or until `send` raises FeedClosedError. Where Kafka is away, waits."""
        try:
            while True:
                await self.start()
                try:
                    await self._report()
                except (RetryableError, OffsetLostError) as e:
                    await self.close()
                    await self._wait("reporter.waiting", e)
        except FeedClosedError:
            _log.info("reporter.stopped")

    async def close(self) -> None:
        """Lets go of Kafka. What was sent and not yet committed is sent again by the next run."""
        source, self._source = self._source, None
        if source is not None:
            await in_daemon(source.close)

    async def _open(self) -> None:
        source = WindowSource(self._config, self._group)
        try:
            partitions = await in_daemon(source.open)
        except BaseException:
            await in_daemon(source.close)
            raise
        self._assembler = WindowAssembler(partitions, self._horizon)
        self._source = source
        self._committed = time.monotonic()
        _log.info("reporter.started", group=self._config.topic(self._group), partitions=len(partitions))

    async def _report(self) -> None:
        assembler, source = self._assembler, self._source
        assert source is not None
        while True:
            await in_daemon(lambda: source.read(assembler, _POLL))
            self._backoff.reset()
            for window in assembler.forget(time.monotonic()):
                _log.error("reporter.window_incomplete", start=window.start, end=window.end)
            if not source.caught_up:
                continue
            summaries = assembler.take()
            for summary in summaries:
                await self._deliver(summary)
            if summaries or time.monotonic() - self._committed > _COMMIT_EVERY:
                await self._commit(source)

    async def _deliver(self, summary: WindowSummary) -> None:
        payload = msgspec.json.encode(summary)
        while True:
            try:
                await self._send(payload)
            except RetryableError as e:
                await self._wait("reporter.send_again", e)
            else:
                _log.debug("reporter.sent", start=summary.window.start, links=len(summary.links))
                self._backoff.reset()
                return

    async def _commit(self, source: WindowSource) -> None:
        """Commits the offsets of windows that were sent; waits while Kafka is away."""
        needed = self._assembler.needed()
        while True:
            try:
                await in_daemon(lambda: source.commit(needed))
            except RetryableError as e:
                await self._wait("reporter.waiting", e)
            else:
                self._committed = time.monotonic()
                return

    async def _wait(self, event: str, error: Exception) -> None:
        delay = self._backoff.next()
        _log.warning(event, error=str(error), retry_in_s=round(delay, 1))
        await asyncio.sleep(delay)
