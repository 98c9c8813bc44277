"""`weir psql`: PostgreSQL's own client on weir's database."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from weir.cli._groups import STORES


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=STORES, context_settings={"ignore_unknown_options": True})(psql)


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT", help="Arguments of psql, such as -c 'TABLE link_counts'.")
    ] = None,
) -> None:
    """Open psql on weir's tables, in the Postgres that weir uses. Put options that weir has, too, after --."""
    from weir.infra.config import load
    from weir.infra.postgres import environment
    from weir.infra.servers.postgres_programs import installed

    program = installed() / "psql"
    # By the environment, which other users cannot read: an address on the command line would show in ps.
    os.execve(program, [str(program), *(arguments or [])], environment(load(os.environ), os.environ))
