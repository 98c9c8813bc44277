"""`weir --help` and that of each command: commands are grouped, and flags are shown as flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from weir.cli._groups import PANELS
from weir.cli.main import app


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    root: Any = get_command(app)
    context = root.make_context("weir", [], resilient_parsing=True)
    for name in root.list_commands(context):
        yield (name,)
        inner = root.get_command(context, name)
        for word in inner.list_commands(context) if hasattr(inner, "commands") else ():
            yield name, word


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_is_in_one_of_the_groups() -> None:
    root: Any = get_command(app)
    assert {command.rich_help_panel for command in root.commands.values()} == set(PANELS)
    output = shown()
    places = [output.index(panel) for panel in PANELS]
    assert places == sorted(places)


@pytest.mark.parametrize("words", [(), *commands()], ids=lambda words: " ".join(words) or "weir")
def test_a_flag_is_shown_without_a_value(words: tuple[str, ...]) -> None:
    assert "<bool>" not in shown(*words)
