"""`weir config`: every setting, its value, and where that comes from."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(config)


def config(as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False) -> None:
    """Show every setting with its value and source; passwords are hidden."""
    import msgspec
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from infra import config as configuration

    settings = configuration.describe(os.environ)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(settings), indent=2).decode())
        return
    view = Table(box=None)
    view.add_column("variable", no_wrap=True)
    view.add_column("value", overflow="fold")
    view.add_column("source", no_wrap=True)
    view.add_column("what it is")
    for setting in settings:
        style = "bold" if setting.source != "default" else ""
        view.add_row(setting.variable, escape(setting.value), setting.source, escape(setting.doc), style=style)
    Console().print(view)
