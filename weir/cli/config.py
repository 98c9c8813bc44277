"""`weir config`: every setting, its value, and where that comes from."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import Listing, print_json


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=LOOK)(config)


def config(as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False) -> None:
    """Show every setting with its value and source; passwords are hidden."""
    from weir.infra import config as configuration

    settings = configuration.describe(os.environ)
    if as_json:
        print_json(settings)
        return
    listing = Listing("variable", "value", "source", "what it is", fold=["value"], whole=["variable", "source"])
    for setting in settings:
        style = "bold" if setting.source != "default" else ""
        listing.add(setting.variable, setting.value, setting.source, setting.doc, style=style)
    listing.show()
