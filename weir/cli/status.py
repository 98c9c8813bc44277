"""`weir status`: where everything is, and how it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import Listing, print_json, say, service_names, show_rows

if TYPE_CHECKING:
    from rich.console import Group

    from weir.services.overview import Fact, Overview, OverviewEntry

_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "reconnecting": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "refused": "red",
}
#: The facts that a line tells, where they are not 0, and their words. `weir status NAME` tells all.
_TOLD = {
    "embedded": "embedded",
    "partitions": "partitions",
    "senders": "senders",
    "subscribers": "subscribers",
    "behind_records": "behind",
    "unacknowledged": "unacknowledged",
    "refused": "refused",
    "dropped": "dropped",
    "restarts": "restarts",
    "exit_code": "was the exit code",
}


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=LOOK)(status)


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A server or service: everything that is known of it.",
            show_default=False,
            autocompletion=service_names,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; addresses can be used as they are.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless everything is running.")] = False,
) -> None:
    """Show the address and the state of every server and service."""
    from weir.infra import config as configuration
    from weir.services.overview import overview
    from weir.services.registry import wanted

    config = configuration.load(os.environ)
    found = overview(config)
    shown = found.services if name is None else {name: _one(found, name)}
    if as_json:
        print_json(found if name is None else shown[name])
    elif name is not None:
        _details(shown[name])
    else:
        show(found)
    expected = {*wanted(config), *(() if name is None else (name,))}
    away = {
        key: entry.state
        for key, entry in shown.items()
        # One that was started by hand, and has ended, is nobody's loss.
        if entry.state != "running" and (key in expected or entry.state != "stopped")
    }
    if check and away:
        say(", ".join(f"{key} is {state}" for key, state in away.items()))
        raise typer.Exit(1)


def _one(found: Overview, name: str) -> OverviewEntry:
    """Raises WeirError where there is no such server or service."""
    from weir.schemas.errors import WeirError

    if name not in found.services:
        raise WeirError(f"unknown service {name}; there are {', '.join(found.services)}")
    return found.services[name]


def _details(entry: OverviewEntry) -> None:
    """Shows everything that is known of one."""
    from weir.infra.config.secrets import shown

    facts = {"state": entry.state, "address": shown(entry.address or ""), "pid": entry.pid, **entry.detail}
    show_rows(("fact", "value"), [(key, value) for key, value in facts.items() if value not in (None, "")])


def show(found: Overview) -> None:
    """Shows one line for each: a table for people, with tabs between the cells for a pipe."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(drawing(found.services, f"weir on {found.home}"))
        return
    from weir.infra.config.secrets import shown

    show_rows(
        (),
        [
            (
                name,
                entry.state,
                shown(entry.address or ""),
                entry.pid or "",
                entry.detail.get("error") or _remark(entry),
            )
            for name, entry in found.services.items()
        ],
    )


def drawing(entries: Mapping[str, OverviewEntry], title: str) -> Group:
    """Returns a table with a line for each server and service, and under it why some do not run."""
    from rich.console import Group
    from rich.text import Text

    listing = Listing("service", "state", "address", "", title=title, whole=["service", "state", "address"], cut=[""])
    for name, entry in entries.items():
        colour = _COLOURS.get(entry.state, "dim")
        listing.add(name, Text(f"● {entry.state}", colour), _short(entry.address or ""), _remark(entry))
    reasons = [Text(f"{name}: {entry.detail['error']}") for name, entry in entries.items() if entry.detail.get("error")]
    return Group(listing.drawing, *reasons)


def _short(address: str) -> str:
    """An address without user, password, database and query.

    >>> _short("postgresql://weir:secret@127.0.0.1:5433/weir?options=x"), _short("kafka://a:1,b:2"), _short("")
    ('postgresql://127.0.0.1:5433', 'kafka://a:1,b:2', '')
    """
    scheme, separator, rest = address.partition("://")
    return scheme + separator + rest.partition("/")[0].rpartition("@")[2]


def _remark(entry: OverviewEntry) -> str:
    """Tells somebody who looks what the service holds, and how far it is behind."""
    return ", ".join(_fact(name, entry.detail[name]) for name in _TOLD if entry.detail.get(name))


def _fact(name: str, value: Fact) -> str:
    """One fact in words.

    >>> _fact("partitions", "relations[0] relations[1]"), _fact("behind_records", 12), _fact("embedded", True)
    ('2 partitions', '12 behind', 'embedded')
    """
    if name == "partitions":
        count = len(str(value).split())
        return f"{count} partition{'' if count == 1 else 's'}"
    word = _TOLD[name]
    return word if isinstance(value, bool) else f"{value} {word}"
