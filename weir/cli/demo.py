"""`weir demo`: the links pipeline started, a sample feed played through it, and what comes out shown live."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RUN
from weir.cli._shared import say

if TYPE_CHECKING:
    from weir.infra.config import Config


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RUN)(demo)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Play the sample once, wait until all of it has come back, and end.")
    ] = False,
    duration: Annotated[float | None, typer.Option(min=0, metavar="S", help="End after S seconds.")] = None,
    speed: Annotated[
        float, typer.Option(min=0.001, metavar="X", help="Play X times as fast as it was recorded.")
    ] = 1.0,
) -> None:
    """Play a sample feed through the links pipeline, with a live table of the results. Ctrl-C ends everything."""
    import asyncio

    from weir.demo.run import DemoRun
    from weir.infra import log
    from weir.infra.config import load
    from weir.infra.errors import ConfigError
    from weir.infra.runtime.private import private_home
    from weir.infra.runtime.signals import until_signal

    if os.environ.get("WEIR_FEED_URL"):
        raise ConfigError("WEIR_FEED_URL is set, and the demo plays a feed of its own: unset it, or use `weir up`")
    config = load(os.environ)
    if config.kafka.url is None:  # a home of the demo's own: its links would stand among the user's
        os.environ["WEIR_HOME"] = str(config.home / "demo")
    os.environ["WEIR_FEED_URL"] = feed_url(config)  # services read it there
    config = load(os.environ)
    logs = config.home / "logs"
    private_home(config)
    logs.mkdir(exist_ok=True)
    run = DemoRun(config, logs, once=once, duration=duration, speed=speed)
    with (logs / "weir.log").open("a") as stream:
        log.setup(config, "weir", stream)
        asyncio.run(until_signal(run.whole()))
    say("stopped")
    raise typer.Exit(0 if run.equal else 1)


def feed_url(config: Config) -> str:
    """Returns the address of the demo's feed for the services of this machine."""
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::", "") else config.host
    return f"ws://{host}:{config.feed.port}"
