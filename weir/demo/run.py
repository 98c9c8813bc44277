"""One run of the demo: the feed's server, all services, the readers of the results, and the picture of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from weir.demo.live_reader import DemoReader
from weir.demo.live_table import Rate
from weir.demo.live_view import ROWS, Moment, line, render
from weir.infra.config import Config
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.status import read_all
from weir.infra.runtime.threads import in_daemon
from weir.producers.simulators.feed import report as feed_report
from weir.producers.simulators.feed.check import FeedCheck
from weir.producers.simulators.feed.recorded import measure, read, repeat
from weir.producers.simulators.feed.samples import SAMPLE
from weir.producers.simulators.feed.server import FeedServer
from weir.services.registry import EMBEDDED, wanted
from weir.services.up import up

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
        """Starts everything, plays, shows, and ends everything. Raises what `weir.services.up.up` raises."""
        await self._feed.start(self._config.host, self._config.feed.port)
        print(f"weir: starting servers and services; their logs are in {self._logs}", file=sys.stderr, flush=True)
        try:
            only = ",".join(name for name in wanted(self._config) if name in ORDER)
            async with up(self._config, only):
                try:
                    with await in_daemon(lambda: DemoReader(self._config, wall_clock())) as reader:
                        async with asyncio.TaskGroup() as group:
                            showing = group.create_task(self._show(reader))
                            await self._played()
                            showing.cancel()
                finally:
                    print("weir: stopping", file=sys.stderr, flush=True)
        finally:
            await self._feed.stop()

    async def _played(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._duration):
                await self._feed.play()
                patience = (self._config.links.window + self._config.links.grace) / 1000 + PATIENCE_S
                self.equal = await self._feed.all_came_back(patience)
                self._conclude()

    def _conclude(self) -> None:
        compared = self._check.compare()
        if self.equal:
            calls = sum(pair.counted for pair in compared.pairs)
            print(f"all {calls:,} calls came back as they were sent, in {compared.windows} windows", flush=True)
        else:
            self._console.print(feed_report.comparison(compared, self._feed.ended))

    async def _show(self, reader: DemoReader) -> None:
        await (self._picture(reader) if self._console.is_terminal else self._lines(reader))

    async def _picture(self, reader: DemoReader) -> None:
        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(render(self._moment(reader)), refresh=True)
                await asyncio.sleep(PICTURE_S)

    async def _lines(self, reader: DemoReader) -> None:
        """Prints a line at once, one with the first counts, and one every LINE_S."""
        due, counted = 0.0, 0
        while True:
            moment = self._moment(reader)
            if time.monotonic() >= due or (moment.snapshot.calls and not counted):
                print(line(moment), flush=True)
                due, counted = time.monotonic() + LINE_S, moment.snapshot.calls
            await asyncio.sleep(PICTURE_S)

    def _moment(self, reader: DemoReader) -> Moment:
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
                f" results: http://{self._config.host}:{self._config.api.port}/links   logs: {self._logs}",
                " Ctrl-C ends everything",
            ),
        )
