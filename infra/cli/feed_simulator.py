"""`weir feed serve` from start to end: play, wait for what comes back, compare."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from infra import log
from infra.config import Config
from infra.signals import until_signal
from infra.status import StatusFile
from producers import feed_report
from producers.clock import wall_clock
from producers.feed_check import Comparison, FeedCheck
from producers.feed_server import FeedServer
from producers.recorded_feed import Recorder, Timed

SERVICE = "feed-server"

_log = log.get(SERVICE)


@dataclass(frozen=True)
class Simulation:
    """What to play, and how. `timeout`: seconds to wait after the end. `record`: a file to write what is sent into."""

    messages: Iterator[Timed]
    what: str
    speed: float
    port: int
    record: Path | None
    timeout: float
    as_json: bool


async def simulate(config: Config, simulation: Simulation) -> bool:
    """Plays to the end or to a signal, prints the comparison, and returns whether all came back as it was sent."""
    check = FeedCheck(wall_clock)
    server = FeedServer(simulation.messages, check, simulation.speed)
    found: list[Comparison] = []
    # Around all of it: from the moment that it says it runs, it can be stopped.
    await until_signal(_serve(config, simulation, server, check, found))
    result = found[0] if found else check.compare()
    if simulation.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(feed_report.as_json(result, check, server.ended)) + b"\n")
    else:
        Console().print(feed_report.comparison(result, server.ended))
    return result.equal


async def _serve(
    config: Config, simulation: Simulation, server: FeedServer, check: FeedCheck, found: list[Comparison]
) -> None:
    """Plays; puts the comparison into `found` before the connection ends, which puts into doubt what is on its way."""
    with contextlib.ExitStack() as stack:
        if simulation.record:
            server.record = stack.enter_context(contextlib.closing(Recorder(simulation.record))).write
        address = await server.start(config.host, simulation.port)
        status = StatusFile(config, SERVICE, address)
        try:
            status.set("running", playing=simulation.what, speed=simulation.speed)
            _log.info("feed.serving", address=address, playing=simulation.what, speed=simulation.speed)
            with _live(config, lambda: feed_report.live(server, check, address), quiet=simulation.as_json):
                await _play(server, simulation.timeout)
        finally:
            found.append(check.compare())
            status.remove()
            await server.stop()


async def _play(server: FeedServer, timeout: float) -> None:
    await server.play()
    _log.info("feed.played", waiting_for="what was sent to come back", at_most_s=timeout)
    if not await server.all_came_back(timeout):
        _log.warning("feed.not_all_came_back", waited_s=timeout)


@contextlib.contextmanager
def _live(config: Config, table: Callable[[], Table], quiet: bool) -> Iterator[None]:
    """Shows what is going on, where somebody sits at a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    try:
        with Live(get_renderable=table, console=console, transient=True):
            log.setup(config, SERVICE)  # standard error is the live display's now: log lines go above it
            yield
    finally:
        log.setup(config, SERVICE)
