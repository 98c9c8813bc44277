"""`weir status`: where everything is, and how it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._shared import Listing, print_json

if TYPE_CHECKING:
    from weir.services.overview import Fact, Overview

_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "reconnecting": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "refused": "red",
}


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(status)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; addresses can be used as they are.")] = False,
) -> None:
    """Show the address and the state of every server and service."""
    from weir.infra import config as configuration
    from weir.services.overview import overview

    found = overview(configuration.load(os.environ))
    if as_json:
        print_json(found)
    else:
        listing(found).show()


def listing(found: Overview) -> Listing:
    """Returns the status as a table, with passwords in addresses hidden."""
    from rich.text import Text

    from weir.infra.config.secrets import shown

    table = Listing(
        "service", "state", "address", "pid", "detail",
        title=f"weir on {found.home}",
        whole=["service", "state", "pid"],
        fold=["address"],  # all of it, so that it can be copied
    )  # fmt: skip
    for service, entry in found.services.items():
        detail = ", ".join(_fact(name, value) for name, value in entry.detail.items() if value is not None)
        colour = _COLOURS.get(entry.state, "dim")
        state = Text(entry.state, colour)
        table.add(service, state, shown(entry.address or ""), entry.pid, detail)
    return table


def _fact(name: str, value: Fact) -> str:
    """One fact of a service in words; a list of partitions is only counted, --json has them all.

    >>> _fact("partitions", "relations[0]"), _fact("embedded", True), _fact("embedded", False), _fact("attempt", 3)
    ('1 partition', 'embedded', 'not embedded', 'attempt 3')
    """
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if name == "partitions" and isinstance(value, str):
        count = len(value.split())
        return f"{count} partition{'' if count == 1 else 's'}"
    return f"{name} {value}"
