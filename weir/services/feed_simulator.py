"""`weir feed serve` from start to end: play, wait for what comes back, compare."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from weir.infra import log
from weir.infra.config import Config
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.signals import until_signal
from weir.infra.runtime.status import StatusFile
from weir.producers.simulators.feed import report as feed_report
from weir.producers.simulators.feed.check import Comparison, FeedCheck
from weir.producers.simulators.feed.recorded import Recorder, Timed
from weir.producers.simulators.feed.server import FeedServer

SERVICE = "feed-server"

_log = log.get_logger(SERVICE)


@dataclass(frozen=True)
class Simulation:
    """Settings of one simulated feed. `timeout`: seconds to wait for windows after the last message. `record`: a file
    that receives a copy of the messages sent.
    """

    messages: Iterator[Timed]
    what: str
    speed: float
    port: int
    record: Path | None
    timeout: float
    as_json: bool


async def simulate(config: Config, simulation: Simulation) -> bool:
    """Plays to the end or to a signal, prints the comparison, and returns whether all came back as it was sent.

    The first Ctrl-C ends the sending alone, and what was sent is waited for as at the end of a feed; the next one, or
    another signal, ends that too.
    """
    check = FeedCheck(wall_clock)
    server = FeedServer(simulation.messages, check, simulation.speed)
    found: list[Comparison] = []
    playing: list[asyncio.Task[None]] = []

    def send_no_more() -> bool:
        return bool(playing) and playing[0].cancel()

    # Around all of it: from the moment that it says it runs, it can be stopped.
    await until_signal(_serve(config, simulation, server, check, found, playing), gently=send_no_more)
    result = found[0] if found else check.compare()
    if simulation.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(feed_report.as_json(result, check, server.ended)) + b"\n")
    else:
        Console().print(feed_report.comparison(result, server.ended))
    return result.equal


async def _serve(
    config: Config,
    simulation: Simulation,
    server: FeedServer,
    check: FeedCheck,
    found: list[Comparison],
    playing: list[asyncio.Task[None]],
) -> None:
    """Plays, in the task that it puts into `playing`, which may be cancelled; puts the comparison into `found` before
    the connection ends, which puts into doubt what is on its way."""
    with contextlib.ExitStack() as stack:
        if simulation.record:
            server.record = stack.enter_context(contextlib.closing(Recorder(simulation.record))).write
        address = await server.start(config.host, simulation.port)
        status = StatusFile(config, SERVICE, address)
        try:
            status.set("running", playing=simulation.what, speed=simulation.speed)
            _log.info("feed.serving", address=address, playing=simulation.what, speed=simulation.speed)
            with _live(config, lambda: feed_report.live(server, check, address), quiet=simulation.as_json):
                playing.append(asyncio.create_task(server.play()))
                try:
                    await _played(server, playing[0], simulation.timeout)
                finally:
                    playing[0].cancel()
        finally:
            found.append(check.compare())
            status.remove()
            await server.stop()


async def _played(server: FeedServer, playing: asyncio.Task[None], timeout: float) -> None:
    await asyncio.wait([playing])
    if not playing.cancelled():
        playing.result()
    event = "feed.stopped_sending" if playing.cancelled() else "feed.played"
    _log.info(event, waiting_for="what was sent to come back", at_most_s=timeout, gives_up="Ctrl-C")
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
