"""How commands are grouped in `weir --help`, and how their flags are shown there."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

RUN = "Run weir"
LOOK = "See how it does"
RECORDS = "Read and write records"
STORES = "Postgres and the archive"
MAINTAIN = "Take back and clean up"
#: In the order of the help.
PANELS = (RUN, LOOK, RECORDS, STORES, MAINTAIN)


class CommandGroup(TyperGroup):
    """Commands in the order of their panels; a flag is shown without the type of a value that it does not take."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, those of a panel beside each other."""
        return sorted(super().list_commands(ctx), key=lambda name: (self._panel(name), name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None where there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            without_types(command, ctx)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help of the group itself."""
        without_types(self, ctx)
        super().format_help(ctx, formatter)

    def _panel(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return PANELS.index(panel) if panel in PANELS else len(PANELS)


def without_types(command: Any, ctx: Any) -> None:
    """Has the help of a command show its flags as flags: typer writes `<bool>` behind them."""
    own = None if ctx is None else command.get_help_option(ctx)
    for option in (*command.params, own):
        if option is not None and getattr(option, "is_flag", False) and option.metavar is None:
            option.metavar = ""
