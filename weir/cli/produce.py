"""`weir produce`: JSON lines onto a topic, each checked first, and an honest count at the end."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from weir.cli._groups import RECORDS
from weir.cli._shared import TopicArgument, say, time_ms

if TYPE_CHECKING:
    from rich.console import Console

    from weir.infra.kafka.lines import LineParser
    from weir.infra.kafka.writer import TopicWriter

#: Refused lines that are reported one by one.
REPORTED = 20
#: How long to wait for Kafka before the first line.
FIRST_ANSWER_S = 5.0


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RECORDS)(produce)


def produce(
    topic: TopicArgument,
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(metavar="[FILE|-]", help="JSON lines; - is standard input.")
    ] = "-",  # type: ignore[assignment]
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Key of every record, where the topic leaves it free.")
    ] = None,
    timestamp: Annotated[
        int | None,
        typer.Option(
            parser=time_ms, metavar="TIME", help="Every record's time: RFC 3339 or epoch milliseconds. Default: now."
        ),
    ] = None,
    envelope: Annotated[
        bool,
        typer.Option(
            "--envelope", help='Lines are {"value": …, "key": …, "timestamp": …}, as `weir tail --json` prints.'
        ),
    ] = False,
) -> None:
    """Write JSON lines to a topic. Each line is checked against the topic's schema first; blank lines are skipped.

    Ends with `accepted N, refused M`, where accepted means acknowledged by Kafka, and with exit code 1 if M is not 0.
    """
    from rich.console import Console

    from weir.infra.config import load
    from weir.infra.errors import WeirError
    from weir.infra.kafka.client import ensure_topics
    from weir.infra.kafka.lines import LineParser
    from weir.infra.kafka.writer import TopicWriter
    from weir.schemas.topics import TOPICS, by_name

    config = load(os.environ)
    target = by_name(topic)
    if target.owner != "producers":
        ways_in = ", ".join(t.name for t in TOPICS if t.owner == "producers")
        raise WeirError(f"topic {topic} is written by weir itself; topics to write to: {ways_in}")
    if key is not None and target.key_of is not None:
        raise WeirError(f"--key cannot be given: the key of {topic} is {target.key}")
    if file.isatty():
        say("reading JSON lines from the terminal; Ctrl-D ends the input")
    ensure_topics(config, [target], timeout=FIRST_ANSWER_S)
    console = Console(stderr=True, highlight=False)
    refusals = _Refusals(console)
    writer = TopicWriter(config, target, refusals.add)
    try:
        _send_all(file, LineParser(target, key=key, timestamp=timestamp, envelope=envelope), writer, refusals, console)
    except KeyboardInterrupt:
        writer.flush()
        raise
    finally:
        refusals.close()
        unknown = f", not known of {writer.unanswered}" if writer.unanswered else ""
        print(f"accepted {writer.accepted}, refused {refusals.count}{unknown}")
    if refusals.count:
        raise typer.Exit(1)


def _send_all(file: BinaryIO, parser: LineParser, writer: TopicWriter, refusals: _Refusals, console: Console) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from weir.infra.kafka.lines import read_lines
    from weir.schemas.errors import PoisonError

    columns = (BarColumn(), TextColumn("{task.fields[accepted]:,} accepted"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=_size(file), accepted=0)
        for number, line, read in read_lines(file):
            try:
                if isinstance(line, PoisonError):
                    raise line
                writer.send(number, parser.records(line))
            except PoisonError as e:
                refusals.add(number, e)
            progress.update(task, advance=read, accepted=writer.accepted)
        writer.flush()


class _Refusals:
    """Counts refused lines, and reports the first of them as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.count = 0

    def add(self, number: int, error: Exception) -> None:
        """Records one refused line and the reason."""
        self.count += 1
        if self.count <= REPORTED:
            reason = getattr(error, "reason", "kafka")
            self._console.print(f"line {number}: {reason}: {error}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Says how many more there were."""
        if self.count > REPORTED:
            self._console.print(f"… and {self.count - REPORTED:,} more")


def _size(file: BinaryIO) -> int | None:
    """A regular file's size in bytes; a pipe has none."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
