"""One run of the demo: the feed's server, all services, the readers of the results, and the picture of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from infra.config import Config
from infra.live_reader import LiveReader
from infra.live_table import Rate
from infra.live_view import ROWS, Moment, line, render
from infra.services import EMBEDDED, wanted
from infra.status import read_all
from infra.threads import in_daemon
from infra.up import up
from producers import feed_report
from producers.clock import wall_clock
from producers.feed_check import FeedCheck
from producers.feed_server import FeedServer
from producers.recorded_feed import measure, read, repeat
from producers.samples import SAMPLE

#: What is started and shown, in the order of the data's way: what the sample comes through and nothing else. So it
#: starts quickly, and the picture has room for all.
ORDER = [*EMBEDDED, "feed", "worker-links", "link-store", "api"]
#: Seconds between two pictures, and between two lines where there is no terminal.
PICTURE_S, LINE_S = 0.25, 10.0
#: Seconds that what was sent last has to come back, beside its window and grace.
PATIENCE_S = 60.0


class DemoRun:
    """`equal` says at the end whether all that was sent has come back; True where the run was ended before."""

    def __init__(self, config: Config, logs: Path, *, once: bool, duration: float | None, speed: float) -> None:
        length = measure(SAMPLE).seconds
        self._config = config
        self._logs = logs
        self._once = once
        self._duration = duration
        self._check = FeedCheck(wall_clock)
        self._feed = FeedServer(read(SAMPLE) if once else repeat(SAMPLE, length), self._check, speed)
        self._rate = Rate()
        self._console = Console(highlight=False)
        self.equal = True

    async def whole(self) -> None:
        """Starts everything, plays, shows, and ends everything. Raises what `infra.up.up` raises."""
        await self._feed.start(self._config.host, self._config.feed_port)
        print(f"weir: starting servers and services; their logs are in {self._logs}", file=sys.stderr, flush=True)
        try:
            only = ",".join(name for name in wanted(self._config) if name in ORDER)
            async with up(self._config, only, self._logs):
                with await in_daemon(lambda: LiveReader(self._config, wall_clock())) as reader:
                    async with asyncio.TaskGroup() as group:
                        showing = group.create_task(self._show(reader))
                        await self._played()
                        showing.cancel()
        finally:
            await self._feed.stop()

    async def _played(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._duration):
                await self._feed.play()
                patience = (self._config.links_window + self._config.links_grace) / 1000 + PATIENCE_S
                self.equal = await self._feed.all_came_back(patience)
                self._conclude()

    def _conclude(self) -> None:
        compared = self._check.compare()
        if self.equal:
            calls = sum(pair.counted for pair in compared.pairs)
            print(f"all {calls:,} calls came back as they were sent, in {compared.windows} windows", flush=True)
        else:
            self._console.print(feed_report.comparison(compared, self._feed.ended))

    async def _show(self, reader: LiveReader) -> None:
        await (self._picture(reader) if self._console.is_terminal else self._lines(reader))

    async def _picture(self, reader: LiveReader) -> None:
        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(render(self._moment(reader)), refresh=True)
                await asyncio.sleep(PICTURE_S)

    async def _lines(self, reader: LiveReader) -> None:
        while True:
            print(line(self._moment(reader)), flush=True)
            await asyncio.sleep(LINE_S)

    def _moment(self, reader: LiveReader) -> Moment:
        snapshot = reader.snapshot(ROWS)
        compared = self._check.compare()
        return Moment(
            now=wall_clock(),
            services=sorted((s for s in read_all(self._config) if s.name in ORDER), key=lambda s: ORDER.index(s.name)),
            snapshot=snapshot,
            sent=sum(pair.sent + pair.in_doubt for pair in compared.pairs),
            came_back=sum(pair.counted for pair in compared.pairs),
            windows_back=compared.windows,
            per_second=self._rate.per_second(time.monotonic(), snapshot.calls),
            notes=(
                f" results: http://{self._config.host}:{self._config.api_port}/links   logs: {self._logs}",
                " Ctrl-C ends everything",
            ),
        )
