"""`weir tail`: a topic's records as they come, for a person or for a pipe."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RECORDS
from weir.cli._shared import TopicArgument, say, until_closed

if TYPE_CHECKING:
    from weir.infra.kafka.record_view import RecordView


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RECORDS)(tail)


def tail(
    topic: TopicArgument,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the records that exist already.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=0, metavar="N", help="End after N records.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, metavar="P", help="Only this partition.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show a topic's committed records as they come, until Ctrl-C or `--count`."""
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

    from weir.infra.config import load
    from weir.infra.kafka.client import ensure_topics
    from weir.infra.kafka.topic_reader import PATIENCE_S, TopicReader
    from weir.schemas.topics import by_name

    config = load(os.environ)
    chosen = by_name(topic)
    ensure_topics(config, [chosen], timeout=PATIENCE_S)
    start = OFFSET_BEGINNING if from_beginning else OFFSET_END
    try:
        with until_closed(), TopicReader(config, chosen, start=start, partition=partition, away=_say_away) as reader:
            if not from_beginning:
                say(f"waiting for new records in {topic}; Ctrl-C ends")
            records = reader.for_ever()
            printed = 0
            while count is None or printed < count:
                record = next(records)
                if record is not None:
                    _print(record, json)
                    printed += 1
                elif _nobody_reads():
                    return
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _say_away(error: Exception) -> None:
    say(f"{error}; waiting for it")


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that was closed: without a new record no write would tell."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return bool(poll.poll(0))


def _print(record: RecordView, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(record.to_json() + b"\n")
    else:
        place, content = record.to_line()
        sys.stdout.write(f"\x1b[2m{place}\x1b[0m {content}\n" if sys.stdout.isatty() else f"{place} {content}\n")
    sys.stdout.flush()
