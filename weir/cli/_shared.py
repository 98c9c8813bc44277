"""Shared by commands: times, questions and remarks at a terminal, tables, lines for a pipe, running a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from weir.infra.config import Config


def topic_names(incomplete: str) -> list[str]:
    """The topics that begin like this, for a shell's completion."""
    from weir.schemas.topics import TOPICS

    return [topic.name for topic in TOPICS if topic.name.startswith(incomplete)]


def job_names(incomplete: str) -> list[str]:
    """The jobs that begin like this, for a shell's completion."""
    from weir.streams.jobs.registry import JOBS

    return [name for name in JOBS if name.startswith(incomplete)]


def service_names(incomplete: str) -> list[str]:
    """The servers and services that begin like this, for a shell's completion."""
    from weir.services.registry import EMBEDDED, services

    return [name for name in (*EMBEDDED, *(one.name for one in services())) if name.startswith(incomplete)]


#: The argument of commands that work on a topic.
TopicArgument = Annotated[
    str,
    typer.Argument(metavar="TOPIC", help="The topic's name, as `weir topics` shows it.", autocompletion=topic_names),
]


def configured(service: str) -> Config:
    """Returns the configuration, and sets up the log of this service, apart from a command's output."""
    from weir.infra import log
    from weir.infra.config import load

    config = load(os.environ)
    log.setup(config, service)
    return config


def run_service(service: str, work: Callable[[Config], Coroutine[Any, Any, None]]) -> None:
    """Runs a service until a signal ends it."""
    import asyncio

    from weir.infra.runtime.signals import until_signal

    asyncio.run(until_signal(work(configured(service)), service))


def time_ms(text: str) -> int:
    """Parses an option that is a time in RFC 3339 or in epoch milliseconds."""
    from weir.infra.kafka.lines import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e


def say(remark: object) -> None:
    """Writes a remark to standard error: standard output is for results."""
    print(f"weir: {remark}", file=sys.stderr, flush=True)


def agreed(question: str, yes: bool, otherwise: str) -> bool:
    """Returns whether --yes is given or the user agrees at the terminal. Raises WeirError, which begins with
    `otherwise`, without a terminal.
    """
    from weir.schemas.errors import WeirError

    if not yes and not sys.stdin.isatty():
        raise WeirError(f"{otherwise}: there is no terminal to confirm at, so add --yes")
    return yes or typer.confirm(question, err=True)


@contextmanager
def until_closed() -> Iterator[None]:
    """Ends quietly when the reader of standard output has closed the pipe."""
    try:
        yield
    except BrokenPipeError:  # the interpreter must not try to flush into the pipe again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: object) -> None:
    """Prints a value as indented JSON."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


class Listing:
    """A table for people. `right`, `fold`, `whole` and `cut` name the columns that are aligned to the right, broken
    where they are too long, never broken, or cut there; `widths` has the greatest width of some.
    """

    def __init__(
        self,
        *headers: str,
        right: Collection[str] = (),
        fold: Collection[str] = (),
        whole: Collection[str] = (),
        cut: Collection[str] = (),
        widths: Mapping[str, int] | None = None,
        title: str | None = None,
        show_header: bool = True,
    ) -> None:
        from rich.table import Table
        from rich.text import Text

        shown = None if title is None else Text(title, "table.title")
        #: The table, as rich draws it.
        self.drawing = Table(box=None, title=shown, title_justify="left", show_header=show_header, expand=bool(cut))
        for header in headers:
            self.drawing.add_column(
                Text(header),
                justify="right" if header in right else "left",
                overflow="fold" if header in fold else "ellipsis",
                no_wrap=header in whole or header in cut,
                max_width=(widths or {}).get(header),
                ratio=1 if header in cut else None,  # it gets what the others leave
            )

    def add(self, *cells: object, style: str = "") -> None:
        """Adds a row. What is None is empty; rich text stays as it is."""
        from rich.text import Text

        shown = (c if isinstance(c, Text) else Text("" if c is None else str(c)) for c in cells)
        self.drawing.add_row(*shown, style=style)

    def show(self) -> None:
        """Writes the table to standard output."""
        from rich.console import Console

        Console().print(self.drawing)


def show_rows(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> None:
    """Writes rows: as a table for people, as lines with tabs between the cells for a pipe."""
    if not sys.stdout.isatty():
        for row in rows:
            print(*(str(cell).translate({9: " ", 10: " ", 13: " "}) for cell in row), sep="\t")
        return
    listing = Listing(*headers, right=right)
    for row in rows:
        listing.add(*row)
    listing.show()
