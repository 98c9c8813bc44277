"""`weir feed connect` and `weir feed serve`: the way in from a feed, and a feed to try it with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from infra import config as configuration
from infra import log


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    feed = typer.Typer(no_args_is_help=True, help="Read a feed, or play one.")
    feed.command("connect")(connect)
    feed.command("serve")(serve)
    app.add_typer(feed, name="feed")


def connect(
    url: Annotated[str | None, typer.Argument(help="ws:// or wss:// address; not given: WEIR_FEED_URL.")] = None,
) -> None:
    """Read a feed onto the topics, and send the finished windows back to it."""
    import asyncio

    from infra.cli import feed_service
    from infra.errors import ConfigError
    from infra.signals import until_signal

    config = configuration.load(os.environ)
    if not (address := url or config.feed_url):
        raise ConfigError("which feed? Give its address, or set WEIR_FEED_URL")
    log.setup(config, "feed")
    asyncio.run(until_signal(feed_service.connect(config, address)))


def serve(
    file: Annotated[Path | None, typer.Argument(help="A recorded feed.", dir_okay=False)] = None,
    random: Annotated[bool, typer.Option("--random", help="Play a random feed instead of a file.")] = False,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times faster than recorded.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Play the file again and again.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where to listen (0: any); WEIR_FEED_PORT.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Write what is sent into this file.", dir_okay=False)] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the last counts after the end.")] = 150.0,
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

    The feed starts when a client connects. After its end, waits until all that was sent has come back as counts, and
    prints the comparison; the exit code is 0 where they are equal, else 1.
    """
    import asyncio
    from random import randrange

    from infra.cli.feed_simulator import SERVICE, Simulation, simulate
    from infra.errors import ConfigError
    from producers import recorded_feed
    from producers.random_feed import RandomFeed

    if (file is None) != random:
        raise ConfigError("what shall be played? Give a FILE, or --random")
    if loop and random:
        raise ConfigError("--loop is for a file: a random feed without --duration never ends")
    config = configuration.load(os.environ)
    log.setup(config, SERVICE)
    if file is not None:
        recording = recorded_feed.measure(file)
        messages = recorded_feed.repeat(file, recording.seconds) if loop else recorded_feed.read(file)
        what = f"{file} ({recording.messages} messages, {recording.seconds:g} s)"
    else:
        seed = randrange(1 << 32) if seed is None else seed
        messages = RandomFeed(parents, children, rate, relations_every, batch, duration, seed).messages()
        what = f"random, seed {seed}"
    simulation = Simulation(messages, what, speed, config.feed_port if port is None else port, record, timeout, as_json)
    raise typer.Exit(0 if asyncio.run(simulate(config, simulation)) else 1)
