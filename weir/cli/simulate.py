"""`weir simulate clients`: monitored clients that check what becomes of their events."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RUN, CommandGroup
from weir.cli._shared import say

if TYPE_CHECKING:
    from weir.infra.config import Config
    from weir.producers.simulators.clients.simulation import ClientsSimulation


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    simulate = typer.Typer(
        cls=CommandGroup, no_args_is_help=True, help="Send events as many clients would, and check the results."
    )
    simulate.callback()(lambda: None)  # else the only command would stand in the group's place
    simulate.command("clients")(clients)
    app.add_typer(simulate, name="simulate", rich_help_panel=RUN)


def clients(
    clients: Annotated[int, typer.Option(min=1, max=5000, help="Clients, each a thread of its own.")] = 50,
    rate: Annotated[float, typer.Option(min=0.001, help="New events per second, of all clients together.")] = 1000.0,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="Seconds to run; default: until Ctrl-C.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The address of monitoring; default: this weir's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same events.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait, after the end, until weir has all events.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="The comparison as JSON on standard output.")] = False,
) -> None:
    """Send monitoring events as many clients would, and compare the data that weir has with the events sent.

    Every client sends events of five CUMULATIVE and five TIME-SERIES keys to POST /events, some of them more than once
    on purpose, and retries requests that fail. At the end, or at Ctrl-C, each client's answer of GET /clients must hold
    each of its events once; the exit code is 0 if all do, else 1.
    """
    import asyncio
    from random import randrange

    import msgspec
    from rich.console import Console

    from weir.infra.config import load
    from weir.infra.runtime.signals import until_signal
    from weir.infra.runtime.threads import in_daemon
    from weir.producers.simulators.clients import report as clients_report
    from weir.producers.simulators.clients.simulation import ClientsSimulation

    seed = randrange(1 << 32) if seed is None else seed
    target = url or _address(load(os.environ))
    simulation = ClientsSimulation(target, clients, rate, seconds, seed)
    simulation.start()
    say(f"{clients} clients send to {target}, seed {seed}; Ctrl-C ends it")

    async def play() -> None:
        await in_daemon(simulation.wait)

    with _live(simulation):
        asyncio.run(until_signal(play()))
        simulation.stop()
    say(f"{simulation.pace()}; comparing with what is there")
    compared = simulation.compare(timeout)
    if as_json:
        print(msgspec.json.encode(clients_report.as_json(compared, seed)).decode())
    else:
        Console().print(clients_report.comparison(compared))
        for difference in clients_report.differences(compared):
            print(difference)
    raise typer.Exit(0 if clients_report.equal(compared) else 1)


def _address(config: Config) -> str:
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.monitoring.port}"


@contextlib.contextmanager
def _live(simulation: ClientsSimulation) -> Iterator[None]:
    """Shows what is going on, where somebody sits at a terminal."""
    from rich.console import Console
    from rich.live import Live

    from weir.producers.simulators.clients import report as clients_report

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=lambda: clients_report.live(simulation), console=console, transient=True):
        yield
