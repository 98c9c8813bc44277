"""The command `weir`: every module here registers its own subcommands, and imports no driver before it runs."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from typing import Annotated

import typer

from weir import cli
from weir.cli._groups import CommandGroup
from weir.cli._shared import say
from weir.infra.runtime.patience import tell_by
from weir.infra.version import VERSION
from weir.schemas.errors import WeirError

app = typer.Typer(
    name="weir",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"weir {VERSION}")
        raise typer.Exit


@app.callback()
def weir(
    _: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Exact, fast stream processing on Kafka."""


for _module in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
    if _module.name != "main" and not _module.name.startswith("_"):
        import_module(f"weir.cli.{_module.name}").register(app)


def main() -> None:
    """Runs the command line. An error of weir's own is one line on stderr and exit code 1; a service's, which may stand
    among the lines of others, says which service it is.
    """
    service = _service(sys.argv[1:])
    if service is None:
        tell_by(lambda what: say(f"waiting for {what}"))
    try:
        if os.environ.get("WEIR_APPS") and not {"--version", "-V"} & set(sys.argv[1:2]):
            # Completion goes without an app that cannot be loaded: the line that is being typed is no place to say so.
            with suppress(Exception) if "_WEIR_COMPLETE" in os.environ else nullcontext():
                _load_apps()
        app()
    except WeirError as e:
        if os.environ.get("WEIR_LOG_LEVEL") == "debug":
            raise
        say(e if service is None else f"{service}: {e}")
        sys.exit(1)


def _load_apps() -> None:
    from weir.infra.config import load
    from weir.services import apps

    apps.load(load(os.environ))


def _service(words: Sequence[str]) -> str | None:
    """The service that a command line runs, as a person would type it; None where it is no service.

    >>> _service(["run", "api"]), _service(["feed", "connect", "ws://h:1"]), _service(["worker", "links", "--name=w"])
    ('run api', 'feed connect', 'worker links')
    >>> _service(["tail", "links"]), _service(["up"]), _service([])
    (None, None, None)
    """
    is_service = words[:1] in (["run"], ["worker"]) or words[:2] == ["feed", "connect"]
    return " ".join(words[:2]) if is_service else None


if __name__ == "__main__":
    main()
