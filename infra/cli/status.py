"""`weir status`: where everything is, and how it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from infra.overview import Fact, Overview

_COLOURS = {"running": "green", "starting": "yellow", "reconnecting": "yellow", "waiting": "yellow", "failed": "red"}


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(status)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; addresses can be used as they are.")] = False,
) -> None:
    """Show where every server and service is, and what it does."""
    import msgspec
    from rich.console import Console

    from infra import config as configuration
    from infra.overview import overview

    found = overview(configuration.load(os.environ))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        Console().print(table(found))


def table(found: Overview) -> Table:
    """The same for people; a password in an address is hidden."""
    from rich.markup import escape
    from rich.table import Table

    from infra.config import shown

    view = Table(title=f"weir on {escape(found.home)}", title_justify="left", box=None)
    view.add_column("service", no_wrap=True)
    view.add_column("state", no_wrap=True)
    view.add_column("address", overflow="fold")  # whole, so that it can be copied
    view.add_column("pid", no_wrap=True)
    view.add_column("detail")
    for service, entry in found.services.items():
        detail = ", ".join(_fact(name, value) for name, value in entry.detail.items() if value is not None)
        colour = _COLOURS.get(entry.state, "dim")
        view.add_row(
            escape(service), f"[{colour}]{escape(entry.state)}[/]", escape(shown(entry.address)),
            str(entry.pid or ""), escape(detail),
        )  # fmt: skip
    return view


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
