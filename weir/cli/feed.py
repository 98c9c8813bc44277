"""`weir feed connect` and `weir feed serve`: the way in from a feed, and a feed to try it with."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weir.cli._groups import RUN, CommandGroup
from weir.cli._shared import configured, run_service

if TYPE_CHECKING:
    from weir.infra.config import Config


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    feed = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Read a feed, or play one.")
    feed.command("connect")(connect)
    feed.command("serve")(serve)
    app.add_typer(feed, name="feed", rich_help_panel=RUN)


def connect(
    url: Annotated[str | None, typer.Argument(help="ws:// or wss:// address; not given: WEIR_FEED_URL.")] = None,
) -> None:
    """Read a feed onto the topics, and send the finished windows back to it."""
    from weir.infra.errors import ConfigError
    from weir.services import feed as feed_service

    def work(config: Config) -> Coroutine[Any, Any, None]:
        if not (address := url or config.feed.url):
            raise ConfigError("no feed given: pass its address, or set WEIR_FEED_URL")
        return feed_service.connect(config, address)

    run_service("feed", work)


def serve(
    file: Annotated[Path | None, typer.Argument(help="A recorded feed.", dir_okay=False)] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Play the sample that weir brings instead of a file.")
    ] = False,
    random: Annotated[bool, typer.Option("--random", help="Play a random feed instead of a file.")] = False,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times faster than recorded.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Play the file again and again.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on (0: any free one); default: WEIR_FEED_PORT.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record the messages that are sent in this file.", dir_okay=False)
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the last counts after the end or Ctrl-C.")
    ] = 150.0,
    as_json: Annotated[bool, typer.Option("--json", help="The comparison as JSON on standard output.")] = False,
    parents: Annotated[int, typer.Option(help="Random feed: parents.")] = 12,
    children: Annotated[int, typer.Option(help="Random feed: children.")] = 60,
    rate: Annotated[float, typer.Option(help="Random feed: communications per second.")] = 20.0,
    relations_every: Annotated[float, typer.Option(help="Random feed: seconds between new relations.")] = 20.0,
    batch: Annotated[int, typer.Option(help="Random feed: communications per message.")] = 1,
    duration: Annotated[float | None, typer.Option(help="Random feed: seconds; not given: until stopped.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random feed: the same seed gives the same feed.")] = None,
) -> None:
    """Play a feed, recorded or random, and check what comes back.

    The feed starts when a client connects. After its end, or Ctrl-C, waits until every communication has come back as
    a count, and prints the comparison; the exit code is 0 if they are equal, else 1. Ctrl-C once more ends the wait.
    """
    import asyncio
    from random import randrange

    from weir.infra.errors import ConfigError
    from weir.producers.simulators.feed import recorded as recorded_feed
    from weir.producers.simulators.feed.generated import RandomFeed
    from weir.producers.simulators.feed.samples import SAMPLE
    from weir.services.feed_simulator import SERVICE, Simulation, simulate

    if [file is not None, sample, random].count(True) != 1:
        raise ConfigError("give one thing to play: a FILE, --sample or --random")
    if sample:
        file = SAMPLE
    if loop and random:
        raise ConfigError("--loop is for a file: a random feed without --duration never ends")
    config = configured(SERVICE)
    if file is not None:
        recording = recorded_feed.measure(file)
        messages = recorded_feed.repeat(file, recording.seconds) if loop else recorded_feed.read(file)
        what = f"{file} ({recording.messages} messages, {recording.seconds:g} s)"
    else:
        seed = randrange(1 << 32) if seed is None else seed
        messages = RandomFeed(parents, children, rate, relations_every, batch, duration, seed).messages()
        what = f"random, seed {seed}"
    simulation = Simulation(messages, what, speed, config.feed.port if port is None else port, record, timeout, as_json)
    raise typer.Exit(0 if asyncio.run(simulate(config, simulation)) else 1)
